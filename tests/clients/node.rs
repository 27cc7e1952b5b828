//! Node: its own `fetch`, and undici from the package.

use crate::check::three_calls;
use crate::tools::{find, need, prepared, scenario};

#[test]
fn node_undici() {
    let undici = Some(prepared().join("node/node_modules/undici/index.js")).filter(|file| file.is_file());
    let Some(node) = need("node_undici", "node", find("node")) else { return };
    let Some(undici) = need("node_undici", "undici", undici) else { return };
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&node);
        command.arg(scenario("get.mjs")).arg(&undici).arg(&call.url).args(&call.authorization);
        command
    });
}

/// Node reads the proxy variables since 24 (`NODE_USE_ENV_PROXY=1`); before, its own `fetch` needs a dispatcher.
#[test]
fn node_fetch() {
    let undici = Some(prepared().join("node/node_modules/undici/index.js")).filter(|file| file.is_file());
    let Some(node) = need("node_fetch", "node", find("node")) else { return };
    let Some(undici) = need("node_fetch", "undici", undici) else { return };
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&node);
        command.arg(scenario("fetch.mjs")).arg(&undici).arg(&call.url).args(&call.authorization);
        command
    });
}
