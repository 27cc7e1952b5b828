// Get URL [AUTHORIZATION]: prints the body; the client of the JDK as it comes.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Get {
    public static void main(String[] arguments) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0]));
        if (arguments.length > 1) {
            request.header("Authorization", arguments[1]);
        }
        HttpResponse<String> answer =
                HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            System.err.println(answer.statusCode() + ": " + answer.body());
            System.exit(1);
        }
        System.out.println(answer.version() + " " + answer.body());
    }
}
