//! The framing table against the real thing: what is refused never reaches the upstream.

use std::sync::atomic::Ordering;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::*;
use crate::world::World;

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    request: String,
    status: u16,
    /// The head is good and was forwarded when the body turned out bad: the upstream may have seen it, but
    /// never a whole request.
    #[serde(default)]
    head_passes: bool,
    /// The client speaks HTTP/2, and is answered in it.
    #[serde(default)]
    goaway: bool,
}

#[tokio::test]
async fn refused_framings_never_reach_the_upstream() {
    let text = include_str!("../../../testdata/framing.toml");
    let table: Table = toml::from_str(text).unwrap();
    let world = World::start().await;
    for case in table.case {
        let whole = world.plain.whole.load(Ordering::SeqCst);
        let before = world.plain.seen.lock().unwrap().len();
        let place = format!("plain.example:{}", world.plain.address.port());
        let mut stream = world.connect();
        let request = case.request.replace("PLACE", &place);
        stream.write_all(request.as_bytes()).await.unwrap();
        if case.goaway {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(netproxy::http2::GOAWAY_HTTP_1_1_REQUIRED), "{}", case.name);
            assert_eq!(world.plain.seen.lock().unwrap().len(), before);
            continue;
        }
        let answer = read_answer(&mut stream, "GET").await;
        assert_eq!(answer.status, case.status, "{}: {answer:?}", case.name);
        if case.status != 200 {
            assert!(is_at_end(&mut stream).await, "{}: more than one answer", case.name);
            let seen = world.plain.seen.lock().unwrap().len() - before;
            assert!(seen <= usize::from(case.head_passes), "{}", case.name);
            assert_eq!(world.plain.whole.load(Ordering::SeqCst), whole, "{}", case.name);
        }
    }
}
