//! Decompresses a zstd stream in small pieces, whatever it claims to hold.

use std::io;

use bytes::{Buf, Bytes};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Most bytes handed out at once.
const PIECE: usize = 64 << 10;

/// The largest window a decoder of the `zstd` content coding must accept: 8 MiB (RFC 9659). Bounds the
/// decoder's memory.
const MAX_WINDOW_LOG: u32 = 23;

/// A stream of zstd frames.
pub(super) struct ZstdStream {
    decoder: Decoder<'static>,
    inside_frame: bool,
    /// The last piece was full: the decoder may hold more.
    may_hold_more: bool,
}

impl ZstdStream {
    pub(super) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Self {
            decoder,
            inside_frame: false,
            may_hold_more: false,
        })
    }

    /// The next piece that `input` decompresses to; none when it is used up.
    pub(super) fn pull(&mut self, input: &mut Bytes) -> io::Result<Option<Bytes>> {
        while input.has_remaining() || self.may_hold_more {
            let mut piece = vec![0; PIECE];
            let mut source = InBuffer::around(input);
            let mut target = OutBuffer::around(piece.as_mut_slice());
            let hint = self.decoder.run(&mut source, &mut target)?;
            let (read, written) = (source.pos(), target.pos());
            self.inside_frame = hint != 0;
            self.may_hold_more = self.inside_frame && written == PIECE;
            input.advance(read);
            if written > 0 {
                piece.truncate(written);
                return Ok(Some(piece.into()));
            }
            if read == 0 && input.has_remaining() {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    pub(super) const fn is_complete(&self) -> bool {
        !self.inside_frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decompress(compressed: &[u8], piece: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut stream = ZstdStream::new()?;
        let mut out = Vec::new();
        for chunk in compressed.chunks(piece) {
            let mut input = Bytes::copy_from_slice(chunk);
            while let Some(piece) = stream.pull(&mut input)? {
                assert!(piece.len() <= PIECE);
                out.extend_from_slice(&piece);
            }
        }
        Ok((out, stream.is_complete()))
    }

    #[test]
    fn large_runs_come_in_small_pieces_also_from_two_frames() {
        let mut compressed = zstd::bulk::compress(&vec![7; 1 << 20], 1).unwrap();
        compressed.extend(zstd::bulk::compress(&vec![8; PIECE], 1).unwrap());
        for piece in [1, 7, 1 << 20] {
            let (out, complete) = decompress(&compressed, piece).unwrap();
            assert_eq!(out.len(), (1 << 20) + PIECE);
            assert!(complete);
        }
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, &vec![1; 1 << 20]).unwrap();
        assert!(decompress(&encoder.finish().unwrap(), 100).is_err());
    }

    proptest! {
        #[test]
        fn pieces_give_the_whole_and_a_cut_is_seen(
            body in prop::collection::vec(any::<u8>(), 1..5_000),
            piece in 1_usize..300,
        ) {
            let compressed = zstd::bulk::compress(&body, 1).unwrap();
            prop_assert_eq!(decompress(&compressed, piece).unwrap(), (body, true));
            let (_, complete) = decompress(&compressed[..compressed.len() - 1], piece).unwrap();
            prop_assert!(!complete);
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..500), piece in 1_usize..100) {
            let _ = decompress(&noise, piece);
        }
    }
}
