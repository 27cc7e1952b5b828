//! The only place that opens an outgoing connection, and only to addresses that the guard has judged. Several
//! addresses are tried at staggered times, both families in turn (happy eyeballs, RFC 8305); the first that accepts
//! wins, and the others are given up.
#![allow(clippy::disallowed_methods)] // `TcpStream::connect` is banned everywhere but here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::guard::Checked;

/// Why no address of an upstream could be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialError {
    /// Refused, reset or without a route.
    Unreachable,
    /// No answer.
    Timeout,
}

/// Dials the judged addresses; the next one `delay` after the one before, or as soon as that has failed.
pub async fn dial(checked: &Checked, delay: Duration) -> Result<TcpStream, DialError> {
    race(interleave(checked.addresses()), delay, connect).await
}

/// RFC 8305 §4: IPv6 first, then the families in turn, each in the order of the resolver.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut v6 = addresses.iter().filter(|address| address.is_ipv6());
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(v6.next());
        order.extend(v4.next());
    }
    order
}

/// RFC 8305 §5. Attempts that lose are dropped, and with them their sockets.
async fn race<T, F>(
    order: Vec<SocketAddr>,
    delay: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut left = order.into_iter();
    let Some(first) = left.next() else { return Err(DialError::Unreachable) };
    if left.len() == 0 {
        // The usual case needs no task.
        return connect(first).await.map_err(|error| cause(&error));
    }
    let mut attempts = JoinSet::new();
    attempts.spawn(connect(first));
    let mut last = DialError::Unreachable;
    loop {
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(delay), if left.len() > 0 => {
                left.next().map(|address| attempts.spawn(connect(address)));
                continue;
            }
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = cause(&error),
            Some(Err(_)) => last = DialError::Unreachable,
            None => return Err(last),
        }
        if let Some(address) = left.next() {
            attempts.spawn(connect(address));
        }
    }
}

fn cause(error: &io::Error) -> DialError {
    if error.kind() == io::ErrorKind::TimedOut { DialError::Timeout } else { DialError::Unreachable }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Nagle against delayed ACK costs 40 ms per small request.
    stream.set_nodelay(true)?;
    // A second opinion: what answers is what was judged. IPv4-mapped peers are the same address.
    let peer = stream.peer_addr()?;
    if peer.ip().to_canonical() != address.ip().to_canonical() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::time::Instant;

    const DELAY: Duration = Duration::from_millis(250);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What happened at which millisecond: `+` an attempt starts, `-` it ends or is dropped.
    type Log = Arc<Mutex<Vec<(u128, char, SocketAddr)>>>;

    struct Attempt(Log, Instant, SocketAddr);

    impl Drop for Attempt {
        fn drop(&mut self) {
            self.0.lock().unwrap().push((self.1.elapsed().as_millis(), '-', self.2));
        }
    }

    /// Races addresses that take so many milliseconds, and then accept or refuse.
    async fn run(
        plan: &[(&str, u64, bool)],
    ) -> (Result<SocketAddr, DialError>, Vec<(u128, char, SocketAddr)>) {
        let (log, start) = (Log::default(), Instant::now());
        let order = plan.iter().map(|(address, ..)| at(address)).collect();
        let connect = |address: SocketAddr| {
            let (_, ms, accepts) = *plan.iter().find(|(text, ..)| at(text) == address).unwrap();
            log.lock().unwrap().push((start.elapsed().as_millis(), '+', address));
            let attempt = Attempt(Arc::clone(&log), start, address);
            async move {
                let _attempt = attempt;
                sleep(Duration::from_millis(ms)).await;
                if accepts { Ok(address) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        };
        let result = race(order, DELAY, connect).await;
        // Aborted tasks are dropped by the runtime, soon.
        while log.lock().unwrap().len() % 2 != 0 {
            tokio::task::yield_now().await;
        }
        let log = log.lock().unwrap().clone();
        (result, log)
    }

    #[test]
    fn families_take_turns() {
        let order =
            interleave(&[at("192.0.2.1:1"), at("192.0.2.2:1"), at("192.0.2.3:1"), at("[2001:db8::1]:1")]);
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(at);
        assert_eq!(order, expected);
        assert_eq!(interleave(&[at("192.0.2.1:1")]), [at("192.0.2.1:1")]);
        assert!(interleave(&[]).is_empty());
    }

    /// The only leg with a socket of this crate's own; clients' come from the embedder.
    #[tokio::test]
    async fn what_is_dialled_sends_small_pieces_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_by_one_step_and_is_given_up() {
        let (result, log) = run(&[("192.0.2.1:1", 100_000, true), ("192.0.2.2:1", 10, true)]).await;
        assert_eq!(result, Ok(at("192.0.2.2:1")));
        let starts: Vec<_> = log.iter().filter(|(_, sign, _)| *sign == '+').collect();
        assert_eq!(starts, [&(0, '+', at("192.0.2.1:1")), &(250, '+', at("192.0.2.2:1"))]);
        assert!(log.iter().all(|(ms, ..)| *ms <= 261), "{log:?}");
        assert_eq!(log.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_at_once() {
        let plan = [("192.0.2.1:1", 1, false), ("192.0.2.2:1", 1, false), ("192.0.2.3:1", 1, true)];
        let (result, log) = run(&plan).await;
        assert_eq!(result, Ok(at("192.0.2.3:1")));
        assert!(log.iter().all(|(ms, ..)| *ms < 10), "{log:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_when_the_others_refuse() {
        let plan = [("192.0.2.1:1", 600, true), ("192.0.2.2:1", 1, false), ("192.0.2.3:1", 90_000, true)];
        assert_eq!(run(&plan).await.0, Ok(at("192.0.2.1:1")));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_refuse_that_is_the_answer() {
        assert_eq!(
            run(&[("192.0.2.1:1", 5, false), ("192.0.2.2:1", 1, false)]).await.0,
            Err(DialError::Unreachable)
        );
        assert_eq!(run(&[("192.0.2.1:1", 5, false)]).await.0, Err(DialError::Unreachable));
        assert_eq!(run(&[]).await.0, Err(DialError::Unreachable));
    }
}
