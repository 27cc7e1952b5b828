//! Node: its own `fetch`, and undici from the package.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

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

/// Before Node reads the proxy variables, its own `fetch` needs a dispatcher.
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

/// Its own `fetch` alone, as the proxy tells it by `NODE_USE_ENV_PROXY`. A Debian's Node is too old for that (20 in 13):
/// then this is skipped, in CI too.
#[test]
fn node_fetch_by_itself() {
    let Some(node) = need("node_fetch_by_itself", "node", find("node")) else { return };
    if !reads_the_variables(&node) {
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: node_fetch_by_itself: needs Node 22.21, or 24");
        return;
    }
    three_calls("blocked_by_policy", |world, call| {
        let mut command = world.client(&node);
        command
            .env("NODE_USE_ENV_PROXY", "1")
            .arg(scenario("own_fetch.mjs"))
            .arg(&call.url)
            .args(&call.authorization);
        command
    });
}

/// `NODE_USE_ENV_PROXY`, since 24.0 and 22.21.
fn reads_the_variables(node: &Path) -> bool {
    let output = Command::new(node).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(|number| number.parse().unwrap());
    let (major, minor): (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    major >= 24 || (major == 22 && minor >= 21)
}
