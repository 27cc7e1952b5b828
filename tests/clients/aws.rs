//! Clients that sign for AWS with placeholders: what arrives is signed with the real keys, body and all.

use std::path::Path;
use std::process::{Command, Output};

use crate::proxy::{AWS_ID, AWS_SECRET, AWS_TOKEN};
use crate::tools::{find, need, python, scenario};
use crate::world::{ALLOWED, World, shown};

fn world() -> World {
    world_with("HOST_SIDE_AWS_KEYS")
}

fn world_with(keys: &str) -> World {
    let secret = format!("AWS_ACCESS_KEY_ID={keys}@{ALLOWED}:{{port}}");
    World::with(&["--secret", &secret, "--inject", "AWS_ACCESS_KEY_ID=aws-sigv4"])
}

/// Every signed request that arrived, checked; how many there were.
fn all_are_signed(world: &World) -> usize {
    let requests = world.upstream.signed();
    for request in &requests {
        world.upstream.check_signature(request, AWS_ID, AWS_SECRET).unwrap();
    }
    requests.len()
}

fn curl(world: &World, service: &str, options: &[&str], path: &str) -> Output {
    let user =
        format!("{}:{}", world.variables()["AWS_ACCESS_KEY_ID"], world.variables()["AWS_SECRET_ACCESS_KEY"]);
    let mut command: Command = world.client("curl".as_ref());
    command.args(["-sS", "--fail-with-body", "--aws-sigv4", service, "--user", &user]).args(options);
    command.arg(world.url(ALLOWED, path)).output().unwrap()
}

#[test]
fn curl_signs_a_body_and_does_not_say_its_hash() {
    let Some(_) = need("curl_signs…", "curl", find("curl")) else { return };
    let mut world = world();
    let service = "aws:amz:eu-central-1:dynamodb";
    for options in [&["-d", r#"{"a":1}"#][..], &["-d", ""], &["--http2", "-d", "x"], &["-G", "-d", "b=2"]] {
        let output = curl(&world, service, options, "/hello");
        assert!(output.status.success(), "{options:?}: {}", shown(&output));
    }
    assert_eq!(all_are_signed(&world), 4);
    let log = world.stop();
    assert!(log.requests(ALLOWED).iter().all(|line| line["credential"] == "AWS_ACCESS_KEY_ID"));
}

#[test]
fn signed_chunks_are_signed_anew_on_their_way() {
    let Some(_) = need("signed_chunks…", "curl", find("curl")) else { return };
    let world = world();
    let zeros = "0".repeat(64);
    let mut body = Vec::new();
    for size in [65_536, 200_000, 1, 0] {
        body.extend(format!("{size:x};chunk-signature={zeros}\r\n").into_bytes());
        body.extend(vec![b'a'; size]);
        body.extend(b"\r\n");
    }
    std::fs::write(world.home().join("chunks"), &body).unwrap();
    let put = |file: &str, more: &[&str]| {
        let streaming = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let options = [&["-T", file, "-H", streaming], more].concat();
        curl(&world, "aws:amz:eu-central-1:s3", &options, "/size")
    };
    for more in [&["--http1.1"][..], &["--http2"]] {
        let output = put("chunks", more);
        assert_eq!(shown(&output), body.len().to_string());
    }
    assert_eq!(all_are_signed(&world), 2);
    // One that ends too soon arrives nowhere as a whole, and says why.
    std::fs::write(world.home().join("cut"), &body[..100_000]).unwrap();
    let output = put("cut", &["--http1.1"]);
    assert!(
        !output.status.success() && shown(&output).contains("request_body_refused"),
        "{}",
        shown(&output)
    );
    assert_eq!(all_are_signed(&world), 2);
}

#[test]
fn boto3() {
    let Some(python) = need("boto3", "Python with packages", python()) else { return };
    for (keys, token) in [("HOST_SIDE_AWS_KEYS", None), ("HOST_SIDE_AWS_SESSION", Some(AWS_TOKEN))] {
        let world = world_with(keys);
        world.upstream.put("/bucket/put", "text/plain", "");
        world.upstream.put("/bucket/file", "text/plain", "");
        world.upstream.put("/bucket/get", "text/plain", "content");
        world.upstream.put("/dynamodb", "application/x-amz-json-1.0", "{}");
        let identity = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                        <GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>\
                        </GetCallerIdentityResponse>";
        world.upstream.put("/sts", "text/xml", identity);
        let run = |python: &Path| {
            let mut command = world.client(python);
            command.env("PYTHONDONTWRITEBYTECODE", "1").arg(scenario("aws.py")).arg(world.url(ALLOWED, ""));
            command.output().unwrap()
        };
        let output = run(&python);
        assert_eq!(shown(&output).trim(), "content 123456789012", "{}", shown(&output));
        assert_eq!(all_are_signed(&world), 10);
        for request in world.upstream.signed() {
            assert_eq!(request.header("x-amz-security-token"), token);
        }
    }
}
