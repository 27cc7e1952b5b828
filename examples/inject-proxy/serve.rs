//! Connections in, signals in between, and the end. Decides nothing about a request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use glue::live::{LivePolicy, Reloaded};
use glue::sources::RefreshHandle;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::say::Messages;
use crate::setup::Setup;

/// Pause after an accept that failed, mostly for want of descriptors: they come back as connections end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One thread carries the traffic of one sandbox; more only where they were asked for.
pub fn runtime(threads: u16) -> io::Result<Runtime> {
    match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        more => Builder::new_multi_thread().worker_threads(usize::from(more)).enable_all().build(),
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(mut setup: Setup, options: &Options, messages: Messages) -> Result<()> {
    let (mut hangup, mut term, mut int) = signals().map_err(Error::io("signals cannot be watched"))?;
    let keys = watch_keys(&mut setup, options, messages)?;
    let has_log = setup.audit.is_some();
    warn(&setup.policy, (has_log, messages));
    setup.policy.announce(&setup.proxy);
    messages
        .ready(setup.listen, &setup.doors.places(), &setup.variables)
        .map_err(Error::io("standard output cannot be written, where the address stands"))?;
    // Each connection holds a sender; the receiver hears when the last one has gone.
    let (open, mut all_gone) = mpsc::channel::<()>(1);
    let doors = std::mem::take(&mut setup.doors).serve(&setup.proxy, setup.audit.as_ref(), &open, messages);
    let policy = Arc::clone(&setup.policy);
    let tell = move |reloaded: &Reloaded, policy: &LivePolicy| tell(reloaded, policy, (has_log, messages));
    let watch = tokio::spawn(policy.follow(setup.proxy.clone(), tell));
    let which = loop {
        tokio::select! {
            () = accept(&setup, &open) => {}
            _ = hangup.recv() => {
                let (policy, proxy) = (Arc::clone(&setup.policy), setup.proxy.clone());
                spawn_blocking(move || tell(&policy.reload(&proxy), &policy));
                keys.iter().for_each(RefreshHandle::now);
            }
            _ = term.recv() => break "SIGTERM",
            _ = int.recv() => break "SIGINT",
        }
    };
    watch.abort();
    let Setup { listener, audit, proxy, renewals, .. } = setup;
    drop((listener, doors, open));
    messages.say("drain", &format!("{which}: open connections have {} s to finish", options.drain));
    let longest = Duration::from_secs(options.drain);
    let all_gone = async { tokio::join!(proxy.drain(longest), timeout(longest, all_gone.recv())).1 };
    let cut = tokio::select! {
        all_gone = all_gone => all_gone.is_err().then_some("the time is over"),
        _ = term.recv() => Some("SIGTERM again"),
        _ = int.recv() => Some("SIGINT again"),
    };
    if let Some(why) = cut {
        messages.say("cut", &format!("{why}: what is still open is closed"));
        proxy.end().await;
    }
    if let Some(renewals) = renewals {
        renewals.finish(|text| messages.say("drain", text)).await;
    }
    match audit {
        Some(audit) if audit.has_failed() => Err(Error::Audit),
        _ => Ok(()),
    }
}

/// Says which store is in use, and begins to look for new values.
fn watch_keys(setup: &mut Setup, options: &Options, messages: Messages) -> Result<Option<RefreshHandle>> {
    if let Some(store) = &setup.store {
        messages.say("store", &format!("keys from {store}"));
    }
    let report = move |event: glue::sources::Event| messages.say("secret", &event.text());
    let every = Duration::from_secs(options.refresh_secrets);
    let started = setup.refresher.take().map(|refresher| refresher.start(every, report)).transpose();
    started.map_err(Error::io("the thread that looks for new keys cannot be started"))
}

type Signals = (tokio::signal::unix::Signal, tokio::signal::unix::Signal, tokio::signal::unix::Signal);

fn signals() -> io::Result<Signals> {
    Ok((signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// Takes one connection and starts to serve it. May be dropped while it waits.
async fn accept(setup: &Setup, open: &mpsc::Sender<()>) {
    let Some(stream) = next(&setup.listener).await else {
        return tokio::time::sleep(ACCEPT_PAUSE).await;
    };
    let (proxy, open) = (setup.proxy.clone(), open.clone());
    tokio::spawn(async move {
        proxy.serve(stream).await;
        drop(open);
    });
}

/// The next client; `None` if there was none to take.
pub async fn next(listener: &TcpListener) -> Option<tokio::net::TcpStream> {
    let (stream, _) = listener.accept().await.ok()?;
    // Without it, small answers wait for the client's delayed acknowledgement (40 ms).
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

fn warn(policy: &LivePolicy, (has_log, messages): (bool, Messages)) {
    if let Some(warning) = policy.warning(has_log) {
        messages.say("not_enforced", &warning);
    }
}

fn tell(reloaded: &Reloaded, policy: &LivePolicy, (has_log, messages): (bool, Messages)) {
    let text = reloaded.to_string();
    match reloaded {
        Reloaded::Replaced(_) => {
            messages.say("reloaded", &text);
            warn(policy, (has_log, messages));
        }
        Reloaded::Kept(_) => messages.say("kept", &text),
    }
}

/// Two descriptors per connection add up: take what the host allows.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only where a stricter limit is in force, and then connections wait.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_answers_wait_for_no_acknowledgement() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(next(&listener).await.unwrap().nodelay().unwrap());
    }
}
