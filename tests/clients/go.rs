//! Go: the standard library's HTTP client.

use std::process::Command;

use crate::check::three_calls;
use crate::tools::{find, need, scenario};

#[test]
fn go_net_http() {
    let Some(go) = need("go_net_http", "go", find("go")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("get");
    let mut build = Command::new(go);
    build.args(["build", "-o"]).arg(&program).arg(scenario("get.go"));
    build.env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0").current_dir(folder.path());
    assert!(build.status().unwrap().success());
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&program);
        command.arg(&call.url).args(&call.authorization);
        command
    });
}
