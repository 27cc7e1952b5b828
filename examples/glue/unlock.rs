//! Credentials whose store was locked when the sandbox started. A request that needs one is refused as "locked";
//! first it is asked whether the store is open by now, and then the request goes on with the value.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use credvault::{Secret, Vault};
use netproxy::hooks::{BoxFuture, Decided, Inject, InjectError, Injected, RequestHead};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::inject::VaultInject;

/// Fetches the value of the named credential and when it ends; `None` while its store is locked. Must not block.
pub type Unlock = Box<dyn Fn(String) -> BoxFuture<'static, Option<Unlocked>> + Send + Sync>;

/// A value, and when it is to be sent no more (seconds since 1970).
pub type Unlocked = (Secret, Option<u64>);

/// [`VaultInject`], with values that come later.
pub struct UnlockingInject {
    inject: VaultInject,
    opening: Arc<Opening>,
}

/// Opening a store may take a second and much memory, and a guest can have hundreds of requests wait for it, or take them
/// back. So one name is asked for at a time, to the end: the same store may have all of them.
struct Opening {
    vault: Arc<Vault>,
    unlock: Unlock,
    /// Held while one is asked for.
    failed: Arc<Mutex<Failed>>,
}

/// By name: when it was of no use.
type Failed = BTreeMap<String, Instant>;

impl UnlockingInject {
    /// Injects from `vault`; `unlock` is asked for requests that need a locked credential. Those that came while it was asked
    /// have its answer, too.
    pub fn new(
        vault: Arc<Vault>,
        unlock: impl Fn(String) -> BoxFuture<'static, Option<Unlocked>> + Send + Sync + 'static,
    ) -> Self {
        let inject = VaultInject(Arc::clone(&vault));
        let opening = Opening { vault, unlock: Box::new(unlock), failed: Arc::default() };
        Self { inject, opening: Arc::new(opening) }
    }

    /// After `name` was found to be locked.
    async fn unlock_and_inject(
        &self,
        name: String,
        (decided, head): (&Decided<'_>, &mut RequestHead),
    ) -> Result<Injected, InjectError> {
        let came = Instant::now();
        let failed = Arc::clone(&self.opening.failed).lock_owned().await;
        // Requests that came at the same time may have been quicker.
        if self.opening.vault.version(&name).is_none() {
            if failed.get(&name).is_some_and(|when| *when >= came) {
                return Err(InjectError::Locked { name });
            }
            // A task, which goes on without whoever waits for it.
            let opened = tokio::spawn(Arc::clone(&self.opening).open(name.clone(), failed));
            opened.await.unwrap_or(Err(InjectError::Locked { name }))?;
        }
        self.inject.inject_now(decided, head)
    }
}

impl Opening {
    async fn open(
        self: Arc<Self>,
        name: String,
        mut failed: OwnedMutexGuard<Failed>,
    ) -> Result<(), InjectError> {
        let Some((value, not_after_s)) = (self.unlock)(name.clone()).await else {
            failed.insert(name.clone(), Instant::now());
            return Err(InjectError::Locked { name });
        };
        let kept = self.vault.rotate(&name, value, not_after_s);
        kept.map(|_| ()).map_err(|error| InjectError::Refused { reason: error.to_string() })
    }
}

impl Inject for UnlockingInject {
    fn reads_body(&self, decided: &Decided<'_>, head: &RequestHead) -> bool {
        self.inject.reads_body(decided, head)
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        match self.inject.inject_now(decided, head) {
            Err(InjectError::Locked { name }) => Box::pin(self.unlock_and_inject(name, (decided, head))),
            done => Box::pin(ready(done)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use credvault::{Binding, Endpoint, Injection, PlaceholderFormat, Scheme};
    use netproxy::hooks::{
        AddressFacts, Allow, Authorize, ConnectFacts, RequestFacts, ResolveNothing, StaticResolve, Verdict,
    };
    use netproxy::{HostName, Proxy};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;
    use tokio::sync::Notify;

    use super::*;
    use crate::testing::host_name;

    struct Anything;

    impl Authorize for Anything {
        fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
            Allow::by("any").into()
        }
        fn request(&self, _: &RequestFacts<'_>) -> Verdict {
            Allow::by("any").with_credential("KEY").into()
        }
        fn dns_name(&self, _: &HostName) -> Verdict {
            Allow::by("any").into()
        }
        fn address(&self, _: &AddressFacts<'_>) -> bool {
            true
        }
    }

    /// Answers each connection with the head that came.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                stream.write_all(&[start.as_bytes(), &head].concat()).await.unwrap();
            }
        });
        port
    }

    fn locked_vault(port: u16) -> Arc<Vault> {
        let https = Endpoint::https("api.example", Injection::bearer()).unwrap().on_port(port);
        let binding = Binding {
            name: "KEY".to_owned(),
            endpoints: vec![Endpoint { scheme: Scheme::Http, ..https }],
            env: vec!["KEY".to_owned()],
            placeholder: PlaceholderFormat::generic(),
            companions: Vec::new(),
        };
        let mut builder = Vault::builder();
        builder.bind_locked(binding, &mut credvault::os_random).unwrap();
        Arc::new(builder.build())
    }

    fn proxy(inject: UnlockingInject) -> Proxy {
        let here = [127, 0, 0, 1].into();
        let resolve = StaticResolve::over(Arc::new(ResolveNothing)).with(host_name("api.example"), here);
        Proxy::builder().authorize(Anything).inject(inject).resolve(resolve).build().unwrap()
    }

    async fn ask(proxy: Proxy, port: u16) -> String {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let request = format!(
            "GET http://api.example:{port}/ HTTP/1.1\r\nHost: api.example:{port}\r\nConnection: close\r\n\r\n"
        );
        let talk = async move {
            near.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            answer
        };
        // Not in a task of its own: it goes with whoever asks.
        tokio::join!(talk, proxy.serve(far)).0
    }

    #[tokio::test]
    async fn a_locked_store_is_said_so_and_the_request_after_it_is_unlocked_goes_through() {
        let port = echo().await;
        let vault = locked_vault(port);
        assert!(vault.env().any(|(name, placeholder)| name == "KEY" && !placeholder.is_empty()));
        let (open, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_open, count) = (Arc::clone(&open), Arc::clone(&asked));
        let unlock = move |name: String| -> BoxFuture<'static, Option<Unlocked>> {
            assert_eq!(name, "KEY");
            count.fetch_add(1, Ordering::SeqCst);
            let value =
                is_open.load(Ordering::SeqCst).then(|| (Secret::new(b"the-real-key-0123".to_vec()), None));
            Box::pin(std::future::ready(value))
        };
        let proxy = proxy(UnlockingInject::new(Arc::clone(&vault), unlock));
        let refused = ask(proxy.clone(), port).await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
        assert!(refused.contains("\"error\":\"credential_locked\""), "{refused}");
        assert!(refused.contains("x-should-retry: false"), "{refused}");
        open.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let passed = ask(proxy.clone(), port).await;
            assert!(passed.starts_with("HTTP/1.1 200 "), "{passed}");
            assert!(passed.contains("authorization: Bearer the-real-key-0123"), "{passed}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "asked again although it is open");
        assert_eq!(vault.version("KEY"), Some((1, None)));
    }

    /// A store that takes its time, and opens or stays closed.
    #[tokio::test]
    async fn requests_that_come_together_open_the_store_once() {
        let port = echo().await;
        for (opens, status) in [(false, "HTTP/1.1 403 "), (true, "HTTP/1.1 200 ")] {
            let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
            let (count, wait) = (Arc::clone(&asked), Arc::clone(&go));
            let unlock = move |_: String| -> BoxFuture<'static, Option<Unlocked>> {
                count.fetch_add(1, Ordering::SeqCst);
                let wait = Arc::clone(&wait);
                Box::pin(async move {
                    wait.notified().await;
                    opens.then(|| (Secret::new(b"the-real-key-0123".to_vec()), None))
                })
            };
            let proxy = proxy(UnlockingInject::new(locked_vault(port), unlock));
            let before = Handle::current().metrics().num_alive_tasks();
            // Without the one that opens the store.
            let tasks = || Handle::current().metrics().num_alive_tasks() - before - 1;
            let mut all: Vec<_> = (0..20).map(|_| tokio::spawn(ask(proxy.clone(), port))).collect();
            // All are there: nothing on their way waits for anything else.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            // Whoever was first does not wait to the end, and leaves nothing behind.
            let waiting = tasks();
            for gone in all.drain(..10) {
                gone.abort();
            }
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            assert_eq!((waiting % 20, tasks()), (0, waiting / 2));
            go.notify_one();
            for answer in all {
                let answer = answer.await.unwrap();
                assert!(answer.starts_with(status), "{answer}");
            }
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }
}
