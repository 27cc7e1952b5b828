//! Java: the `HttpClient` of its standard library, which speaks HTTP/2.

use crate::check::three_calls;
use crate::tools::{find, need, scenario};

#[test]
fn java_http_client() {
    let Some(java) = need("java_http_client", "java", find("java")) else { return };
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&java);
        command.arg(scenario("Get.java")).arg(&call.url).args(&call.authorization);
        command
    });
}
