// get URL [AUTHORIZATION]: prints the body; the default client of the standard library.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	request, err := http.NewRequest("GET", os.Args[1], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 2 {
		request.Header.Set("Authorization", os.Args[2])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		fmt.Fprintln(os.Stderr, answer.Status, err, string(text))
		os.Exit(1)
	}
	fmt.Println(answer.Proto, string(text))
}
