//! Work for callers beside the threads that serve, and what their answers hold in memory: both are bounded, also where the
//! callers go away before they are answered or take their answers slowly.

use std::sync::Arc;

use axum::response::Response;
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::limits::hold_place;

/// Short reads under way at once.
const SHORT_READS: usize = 64;
/// Calls under way at once that read and hold megabytes, such as a range of blocks.
const HEAVY_PLACES: usize = 8;
/// Documents that are computed at once: each reads and holds up to hundreds of megabytes. Those that wait for their turn
/// keep no other call waiting.
const DOCUMENT_PLACES: usize = 1;
/// What the bytes of answers are counted in (64 KiB).
const UNIT_BYTES: u64 = 64 << 10;
/// Units of all answers that callers are still taking (128 MiB).
const ANSWER_UNITS: u32 = 2_048;

/// How much a piece of work takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Some rows.
    Short,
    /// Some megabytes: a range of blocks, a block, leaves of the state.
    Heavy,
    /// A document, computed from the blocks of its period.
    Document,
}

/// The places of all work for callers, and the room of their answers.
#[derive(Debug)]
pub(crate) struct Work {
    short: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    documents: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Work {
    pub(crate) fn new() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            short: places(SHORT_READS),
            heavy: places(HEAVY_PLACES),
            documents: places(DOCUMENT_PLACES),
            answers: places(ANSWER_UNITS as usize),
        }
    }

    /// Does something that takes the processor or the disk, once there is a place for it. The work keeps the place until
    /// it is done, whether or not anybody waits for it still.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let places = match weight {
            Weight::Short => &self.short,
            Weight::Heavy => &self.heavy,
            Weight::Document => &self.documents,
        };
        let place = Arc::clone(places)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::Busy)?;
        let with_place = move || {
            let done = work();
            drop(place);
            done
        };
        tokio::task::spawn_blocking(with_place)
            .await
            .map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// Counts an answer until its last byte is taken. What is streamed holds one piece at a time and is not counted.
    pub(crate) fn hold(&self, answer: Response) -> Result<Response, ApiError> {
        let bytes = answer.body().size_hint().exact().unwrap_or_default();
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.answers)
            .try_acquire_many_owned(units.min(ANSWER_UNITS))
            .map_err(|_| ApiError::Busy)?;
        Ok(hold_place(answer, room))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::body::Body;
    use axum::response::IntoResponse;
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn work_keeps_its_place_when_nobody_waits_for_it_any_more() {
        let work = Work::new();
        let (begun, has_begun) = mpsc::channel();
        let mut go_on = Vec::new();
        for _ in 0..HEAVY_PLACES {
            let (sender, wait) = mpsc::channel::<()>();
            go_on.push(sender);
            let begun = begun.clone();
            let run = work.run(Weight::Heavy, move || {
                begun.send(()).unwrap();
                wait.recv().unwrap_err();
            });
            // Asked once, then given up.
            assert!(run.now_or_never().is_none());
        }
        for _ in 0..HEAVY_PLACES {
            has_begun.recv().unwrap();
        }
        assert_eq!(work.heavy.available_permits(), 0);
        work.run(Weight::Short, || ()).await.unwrap();
        drop(go_on);
        work.run(Weight::Heavy, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn documents_that_wait_keep_nothing_else_waiting() {
        let work = Work::new();
        let (go_on, wait) = mpsc::channel::<()>();
        let computed = work.run(Weight::Document, move || wait.recv().unwrap_err());
        assert!(computed.now_or_never().is_none());
        let mut next = Box::pin(work.run(Weight::Document, || ()));
        assert!((&mut next).now_or_never().is_none());
        work.run(Weight::Heavy, || ()).await.unwrap();
        drop(go_on);
        next.await.unwrap();
    }

    #[tokio::test]
    async fn answers_are_counted_by_their_bytes_until_they_are_taken() {
        let work = Work::new();
        let answer = || Body::from(vec![0; 8 << 20]).into_response();
        let mut slow: Vec<_> = (0..16).map(|_| work.hold(answer()).unwrap()).collect();
        assert!(matches!(work.hold(answer()), Err(ApiError::Busy)));
        drop(slow.pop());
        slow.push(work.hold(answer()).unwrap());
        drop(slow);
        // One that is larger than all room goes out alone.
        let all = usize::try_from(u64::from(ANSWER_UNITS) * UNIT_BYTES).unwrap();
        let large = work.hold(Body::from(vec![0; all + 1]).into_response()).unwrap();
        assert!(matches!(work.hold(answer()), Err(ApiError::Busy)));
        drop(large);
    }
}
