//! DNS over a stream.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::World;

pub async fn ask(world: &World, name: &str, kind: RecordType) -> Message {
    send(world, &query(name, kind)).await
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query.set_edns(Edns::new());
    query
}

async fn send(world: &World, query: &Message) -> Message {
    let bytes = query.to_vec().unwrap();
    let mut stream = world.dns();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

fn extended_error(message: &Message) -> Option<(u16, String)> {
    match message.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, data) => {
            Some((u16::from_be_bytes([data[0], data[1]]), String::from_utf8(data[2..].to_vec()).unwrap()))
        }
        _ => None,
    }
}

#[tokio::test]
async fn only_allowed_names_and_address_types_are_answered() {
    let world = World::with(
        |names| {
            names
                .with("ok.example", &[&["127.0.0.1", "::1"]])
                .with("mixed.example", &[&["93.184.215.14", "10.0.0.1"]])
                .with("private.example", &[&["10.0.0.1"]])
                .with("gone.example", &[&[]])
        },
        false,
    )
    .await;
    use ResponseCode::{NXDomain, NoError};
    for (name, kind, code, answers, blocked) in [
        ("ok.example.", RecordType::A, NoError, 1, false),
        ("OK.Example.", RecordType::AAAA, NoError, 1, false),
        ("ok.example.", RecordType::HTTPS, NoError, 0, false),
        ("ok.example.", RecordType::SVCB, NoError, 0, false),
        ("ok.example.", RecordType::TXT, NoError, 0, true),
        ("ok.example.", RecordType::ANY, NoError, 0, true),
        ("ok.example.", RecordType::NULL, NoError, 0, true),
        ("gone.example.", RecordType::A, NXDomain, 0, false),
        ("mixed.example.", RecordType::A, NXDomain, 0, true),
        ("private.example.", RecordType::A, NXDomain, 0, true),
        // The resolver panics on these.
        ("denied.example.", RecordType::A, NXDomain, 0, true),
        ("secret-data.ok.example.", RecordType::AAAA, NXDomain, 0, true),
        ("denied.example.", RecordType::HTTPS, NXDomain, 0, true),
        ("denied.example.", RecordType::TXT, NXDomain, 0, true),
        ("127.1.", RecordType::TXT, NXDomain, 0, true),
    ] {
        let before = world.records.0.lock().unwrap().len();
        let answer = ask(&world, name, kind).await;
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert_eq!(answer.answers.len(), answers, "{name} {kind}");
        let record = world.records(before + 1).await.pop().unwrap();
        assert!(["dns", "address", "upstream"].contains(&record["layer"].as_str().unwrap()));
        if code == NoError {
            // An answer without records is no permission: a type that is not served is refused, and in the log as that.
            let refused = matches!(kind, RecordType::TXT | RecordType::ANY | RecordType::NULL);
            assert_eq!(record["verdict"], if refused { "deny" } else { "allow" }, "{name} {kind}");
        }
        let error = extended_error(&answer);
        assert_eq!(error.is_some(), blocked, "{name} {kind}");
        if let Some((code, text)) = error {
            assert_eq!(code, 15);
            let id = record["decision_id"].as_str().unwrap();
            assert!(text.ends_with(&format!("decision_id={id}")), "{text}");
        }
    }
}

/// Each says what is wrong with it (RFC 1035 §4.1.1, RFC 6891 §6.1.3), and none is asked of the resolver, which would
/// answer for this name.
#[tokio::test]
async fn what_is_no_question_of_ours_gets_the_code_for_it() {
    let world = World::with(|names| names.with("ok.example", &[&["127.0.0.1"]]), false).await;
    let good = || query("ok.example.", RecordType::A);
    let mut two = good();
    two.add_query(good().queries.remove(0));
    let mut chaos = good();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut status = good();
    status.metadata.op_code = OpCode::Status;
    let mut later = good();
    later.edns.as_mut().unwrap().set_version(1);
    // 16 is BADVERS.
    for (sent, query, code) in [(1, two, 1), (2, chaos, 1), (3, status, 4), (4, later, 16)] {
        let answer = send(&world, &query).await;
        assert_eq!(u16::from(answer.metadata.response_code), code, "{query}");
        assert_eq!(answer.answers.len(), 0, "{query}");
        assert_eq!(answer.edns.unwrap().version(), 0, "{query}");
        let record = world.records(sent).await.pop().unwrap();
        assert_eq!(record["error"], "malformed_request", "{query}");
    }
    let answer = send(&world, &good()).await;
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
}
