//! Mocks of two model APIs, whole and as event streams, in the words that their SDKs read.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::http::{Request, respond, respond_events};

/// What the model says, in pieces.
pub const WORDS: [&str; 3] = ["one ", "two ", "three"];

/// `POST /v1/chat/completions`
pub fn openai(request: &Request, out: &mut impl Write) -> io::Result<()> {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        let chunk = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choice });
        format!("data: {chunk}\n\n")
    };
    if wants_stream(request) {
        let mut events: Vec<String> =
            WORDS.iter().map(|word| chunk(json!({ "content": word }), Value::Null)).collect();
        events.push(chunk(json!({}), json!("stop")));
        events.push("data: [DONE]\n\n".to_owned());
        return respond_events(out, events.iter().map(String::as_str));
    }
    let message = json!({ "role": "assistant", "content": WORDS.concat() });
    let choice = json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
    let whole =
        json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choice });
    respond(out, "200 OK", "application/json", whole.to_string().as_bytes())
}

/// `POST /v1/messages`
pub fn anthropic(request: &Request, out: &mut impl Write) -> io::Result<()> {
    let usage = json!({ "input_tokens": 1, "output_tokens": 3 });
    let message = |content: Value| {
        json!({ "id": "m1", "type": "message", "role": "assistant", "model": "m", "content": content,
                "stop_reason": null, "stop_sequence": null, "usage": usage })
    };
    if !wants_stream(request) {
        let whole = message(json!([{ "type": "text", "text": WORDS.concat() }]));
        return respond(out, "200 OK", "application/json", whole.to_string().as_bytes());
    }
    let event = |name: &str, mut data: Value| {
        data["type"] = json!(name);
        format!("event: {name}\ndata: {data}\n\n")
    };
    let mut events = vec![
        event("message_start", json!({ "message": message(json!([])) })),
        event("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } })),
    ];
    let delta = |word: &&str| json!({ "index": 0, "delta": { "type": "text_delta", "text": word } });
    events.extend(WORDS.iter().map(|word| event("content_block_delta", delta(word))));
    events.push(event("content_block_stop", json!({ "index": 0 })));
    let stop = json!({ "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": usage });
    events.push(event("message_delta", stop));
    events.push(event("message_stop", json!({})));
    respond_events(out, events.iter().map(String::as_str))
}

fn wants_stream(request: &Request) -> bool {
    serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["stream"] == true)
}
