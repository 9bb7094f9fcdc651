use super::*;

const HASH: &str = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH";

fn parse(text: &str) -> Result<SourceMessage, MessageError> {
    SourceMessage::parse(text, 3)
}

fn indexed(text: &str) -> IndexedOperation {
    match parse(text).unwrap() {
        SourceMessage::Logged(LogEntry::Indexed(operation)) => operation,
        other => panic!("{other:?}"),
    }
}

fn index(number: u64) -> OperationIndex {
    OperationIndex::try_from(number).unwrap()
}

#[test]
fn operations_are_read_in_both_spellings() {
    let array = indexed(&format!(
        r#"{{"type":"put","index":4,"blockNum":9,"path":["a","b"],"data":null,"forkHash":"{HASH}","prevCheckpointHash":"","timestamp":1500,"extra":[]}}"#
    ));
    let slashed = indexed(
        r#"{"type":"put","index":4,"blockNum":9,"path":"a/b","data":null,"timestamp":"1970-01-01T00:00:01.500Z"}"#,
    );
    assert_eq!(array.operation, slashed.operation);
    assert_eq!(array.timestamp_ms, Some(1_500));
    assert_eq!(slashed.timestamp_ms, Some(1_500));
    assert_eq!(array.fork_hash.unwrap().to_string(), HASH);
    assert_eq!(array.previous_checkpoint, None);
    assert_eq!(
        indexed(r#"{"type":"del","index":4,"blockNum":9,"path":["a"],"data":null}"#).operation,
        Operation::Del {
            path: Path(vec!["a".to_owned()])
        }
    );
}

#[test]
fn markers_are_read_in_both_spellings() {
    assert_eq!(
        parse(" \"W\" "),
        Ok(SourceMessage::Logged(LogEntry::BareWriteMarker))
    );
    assert_eq!(
        indexed(r#"{"type":"write_marker","index":1,"blockNum":2,"path":null,"data":null}"#).operation,
        Operation::WriteMarker
    );
    let batch =
        parse(r#"{"type":"batch","operations":[{"type":"del","index":1,"blockNum":2,"path":["a"]},"W"]}"#);
    let Ok(SourceMessage::Batch(entries)) = batch else {
        panic!("{batch:?}")
    };
    assert_eq!(entries[1], LogEntry::BareWriteMarker);
}

#[test]
fn the_token_names_the_network() {
    for (token, network) in [
        ("\"SPK\"", "spkcc"),
        ("\"LARYNX\"", "spkcc"),
        ("\"BROCA\"", "spkcc"),
        ("\"DLUX\"", "dlux"),
        ("null", "dlux"),
    ] {
        match parse(&format!(r#"{{"type":"identify","source":"x","token":{token}}}"#)) {
            Ok(SourceMessage::Identify(identify)) => assert_eq!(identify.network(), network),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_source_without_operations_has_last_index_minus_one() {
    let parsed = parse(r#"{"type":"sync_status","lastIndex":-1,"blockNum":7}"#);
    let Ok(SourceMessage::SyncStatus(status)) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(status.last_index.next().get(), 0);
    assert_eq!(serde_json::to_string(&status.last_index).unwrap(), "-1");
}

#[test]
fn what_is_not_the_protocol_is_an_error() {
    let deep = format!(
        r#"{{"type":"put","index":1,"blockNum":2,"path":["a"],"data":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for bad in [
        "",
        "{",
        "[]",
        "5",
        "null",
        r#""X""#,
        r#"{"index":1}"#,
        r#"{"type":5}"#,
        r#"{"type":"put","index":-1,"blockNum":2,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":-1,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":"2","path":["a"],"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":2,"path":["a",1],"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":2,"path":["a"]}"#,
        r#"{"type":"put","index":1,"blockNum":2,"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":2,"path":["a"],"data":"\ud800"}"#,
        r#"{"type":"put","index":9007199254740992,"blockNum":2,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":1,"blockNum":2,"path":["a"],"data":1,"forkHash":"main"}"#,
        r#"{"type":"del","index":1,"blockNum":2,"path":["a"],"data":1}"#,
        r#"{"type":"write_marker","index":1,"blockNum":2,"path":["a"]}"#,
        r#"{"type":"batch","operations":["X"]}"#,
        r#"{"type":"batch","operations":{}}"#,
        r#"{"type":"batch","operations":["W","W","W","W"]}"#,
        r#"{"type":"checkpoint","blockNum":-1,"hash":""}"#,
        r#"{"type":"sync_status","lastIndex":-2}"#,
        r#"{"type":"sync_status","lastIndex":1,"blockNum":-1}"#,
        r#"{"type":"shout"}"#,
        deep.as_str(),
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        parse(r#"{"type":"shout"}"#),
        Err(MessageError::UnknownType("shout".to_owned()))
    );
}

#[test]
fn refusals_stay_short() {
    let long = "x".repeat(100_000);
    for bad in [
        format!(r#"{{"type":"put","index":"{long}"}}"#),
        format!(r#"{{"type":"put","index":1,"blockNum":1,"path":["{long}"]}}"#),
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"identify","source":"{long}"}}"#),
    ] {
        let error = parse(&bad).unwrap_err();
        assert!(ServerMessage::error(&error).to_text().len() < 400);
    }
}

#[test]
fn answers_have_the_protocols_shape() {
    for (message, text) in [
        (
            ServerMessage::Ack(Ack::Operation {
                index: index(3),
                success: true,
            }),
            r#"{"type":"ack","index":3,"success":true}"#,
        ),
        (
            ServerMessage::Ack(Ack::Identified {
                message: "hello".to_owned(),
                token: Some("DLUX".to_owned()),
            }),
            r#"{"type":"ack","message":"hello","token":"DLUX"}"#,
        ),
        (
            ServerMessage::RequestMissing {
                from: index(3),
                to: index(4),
            },
            r#"{"type":"request_missing","from":3,"to":4}"#,
        ),
        (
            ServerMessage::SyncStatus {
                last_index: LastIndex(None),
                status: SyncState::Synced,
            },
            r#"{"type":"sync_status","lastIndex":-1,"status":"synced"}"#,
        ),
        (
            ServerMessage::Connected {
                node_id: "n".to_owned(),
                timestamp: 5,
                server: "honeygraph",
            },
            r#"{"type":"connected","nodeId":"n","timestamp":5,"server":"honeygraph"}"#,
        ),
    ] {
        assert_eq!(message.to_text(), text);
    }
}
