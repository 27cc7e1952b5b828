//! Java: the JDK's own HttpClient, with nothing but the variables of the proxy.

use std::process::Command;

use crate::check::three_calls;
use crate::tools::{find, need, scenario};

#[test]
fn java_http_client() {
    let Some(javac) = need("java_http_client", "javac", find("javac")) else { return };
    let Some(java) = need("java_http_client", "java", find("java")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut compile = Command::new(javac);
    compile.arg("-d").arg(folder.path()).arg(scenario("Get.java"));
    assert!(compile.status().unwrap().success());
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&java);
        command.arg("-cp").arg(folder.path()).args(["Get", &call.url]).args(&call.authorization);
        command
    });
}
