//! The framing table against the real thing: what is refused never reaches the upstream.

use serde::Deserialize;
use tokio::io::AsyncWriteExt;

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
    /// 0: the connection ends without an answer to the second message.
    status: u16,
}

#[tokio::test]
async fn refused_framings_never_reach_the_upstream() {
    let text = include_str!("../../../testdata/framing.toml");
    let table: Table = toml::from_str(text).unwrap();
    let world = World::start().await;
    for case in table.case {
        let before = world.plain.seen.lock().unwrap().len();
        let place = format!("plain.example:{}", world.plain.address.port());
        let mut stream = world.connect();
        let request = case.request.replace("PLACE", &place);
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream, "GET").await;
        assert_eq!(answer.status, case.status, "{}: {answer:?}", case.name);
        if case.status != 200 {
            assert!(is_at_end(&mut stream).await, "{}: more than one answer", case.name);
            assert_eq!(world.plain.seen.lock().unwrap().len(), before, "{}", case.name);
        }
    }
}
