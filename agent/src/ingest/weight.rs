//! What operations take in memory, estimated.

use honeygraph_chain::{JsonValue, Operation, Operations};

/// Bytes that the operations of a block take.
pub(crate) fn weight_of(operations: &Operations) -> usize {
    let operations = operations.as_slice().iter();
    operations
        .map(|operation| size_of::<Operation>() + weight_behind(operation))
        .sum()
}

/// Bytes that an operation takes beside its own size.
pub(super) fn weight_behind(operation: &Operation) -> usize {
    let path = operation
        .path()
        .map_or(0, |path| path.0.iter().map(|segment| segment.len() + 24).sum());
    path + operation.data().map_or(0, weight_below)
}

fn weight_below(value: &JsonValue) -> usize {
    let own = size_of::<JsonValue>();
    match value {
        JsonValue::String(text) => text.len(),
        JsonValue::Array(items) => items.iter().map(|item| own + weight_below(item)).sum(),
        JsonValue::Object(members) => members
            .iter()
            .map(|(key, member)| own + size_of::<String>() + key.len() + weight_below(member))
            .sum(),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) => 0,
    }
}
