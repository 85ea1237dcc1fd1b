//! Takes the content codings off a body as it streams by (RFC 9110 §8.4): one after the other, the
//! one that was put on last first. One coding is a `layer`.
//!
//! What the decoders of a core hold together comes out of one [`Budget`], what both layers of a
//! body hold is its share; a body for which nothing is left cannot be judged. A body whose coding
//! is strange to us is handed on as it comes, which is what browsers do: mostly the name is a
//! mistake, and nothing was coded.

mod brotli;
pub(crate) mod budget;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gzip;
mod layer;

use super::head::Content;
use budget::Budget;
use layer::{BLOCK_BYTES, Layer};

/// A body that is being decoded.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// There is nothing to take off.
    Plain,
    Once(Layer),
    /// The layer that is taken off first, and the one under it.
    Twice(Box<[Layer; 2]>),
    /// What is to be taken off is not known.
    Strange(Strange),
}

/// A body that is handed on as it comes, whatever was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strange {
    /// Where the value of the field that says it lies in the head.
    pub(crate) field: (u32, u32),
    /// It names codings that there are: what comes is not what the body's user sees.
    pub(crate) hides: bool,
    /// A byte has come. Of a body of none nothing is hidden.
    pub(crate) begun: bool,
}

impl Decoder {
    /// A decoder whose memory comes out of `budget`.
    pub(crate) fn new(content: Content, budget: &Budget) -> Self {
        match content {
            Content::Plain => Self::Plain,
            Content::Once(coding) => Self::Once(Layer::new(coding, &budget.share())),
            Content::Twice(inner, outer) => {
                let share = budget.share();
                let mut layers = [outer, inner].map(|coding| Layer::new(coding, &share));
                if layers.iter().any(Layer::is_starved) {
                    layers.iter_mut().for_each(Layer::close);
                }
                Self::Twice(Box::new(layers))
            }
            Content::Strange { field, hides } => Self::Strange(Strange {
                field,
                hides,
                begun: false,
            }),
        }
    }

    /// Gives what `bytes` decode to, as far as whole blocks go, to `data`.
    pub(crate) fn take(&mut self, bytes: &[u8], data: &mut impl FnMut(&[u8])) {
        match self {
            Self::Plain => data(bytes),
            Self::Strange(strange) => {
                strange.begun |= !bytes.is_empty();
                data(bytes);
            }
            Self::Once(layer) => layer.take(bytes, data),
            Self::Twice(layers) => {
                let [outer, inner] = &mut **layers;
                // At most one block at a time: where one layer ends the other one does not depend
                // on the pieces.
                for piece in bytes.chunks(BLOCK_BYTES) {
                    outer.take(piece, &mut |middle| inner.take(middle, data));
                    end_together(outer, inner, data);
                }
            }
        }
    }

    /// No more bytes are read, by no fault of their sender: gives what is left.
    pub(crate) fn stop(&mut self, data: &mut impl FnMut(&[u8])) {
        match self {
            Self::Plain | Self::Strange(_) => {}
            Self::Once(layer) => layer.stop(data),
            Self::Twice(layers) => {
                let [outer, inner] = &mut **layers;
                outer.stop(&mut |middle| inner.take(middle, data));
                inner.stop(data);
            }
        }
    }

    /// No more bytes come: gives what is left. A stream that is not whole is cut.
    pub(crate) fn finish(&mut self, data: &mut impl FnMut(&[u8])) {
        match self {
            Self::Plain | Self::Strange(_) => {}
            Self::Once(layer) => layer.finish(data),
            Self::Twice(layers) => {
                let [outer, inner] = &mut **layers;
                outer.finish(&mut |middle| inner.take(middle, data));
                end_together(outer, inner, data);
            }
        }
    }

    /// The stream cannot be decoded (any further).
    pub(crate) fn is_broken(&self) -> bool {
        self.worst().is_some_and(Layer::is_broken)
    }

    /// There was no memory to decode it (any further): its sender is not to blame.
    pub(crate) fn is_starved(&self) -> bool {
        self.worst().is_some_and(Layer::is_starved)
    }

    /// Its sender ended the stream early: all of it that came is decoded, but there was to be
    /// more, if only a checksum.
    pub(crate) fn is_cut(&self) -> bool {
        self.worst().is_some_and(Layer::is_cut)
    }

    /// What is wrong with it; empty when nothing is.
    pub(crate) fn why(&self) -> &'static str {
        self.worst().map_or("", Layer::why)
    }

    /// What is known of a coding that is strange to us.
    pub(crate) fn strange(&self) -> Option<Strange> {
        match self {
            Self::Strange(strange) => Some(*strange),
            _ => None,
        }
    }

    /// The layer that says what is wrong. Where the inner one fails, what came so far of the outer
    /// one was well.
    fn worst(&self) -> Option<&Layer> {
        match self {
            Self::Plain | Self::Strange(_) => None,
            Self::Once(layer) => Some(layer),
            Self::Twice(layers) => {
                let [outer, inner] = &**layers;
                let inner_failed = inner.is_broken() || inner.is_starved();
                Some(if inner_failed || outer.why().is_empty() {
                    inner
                } else {
                    outer
                })
            }
        }
    }
}

/// Where one of two layers is over, so is the other: its memory goes back at once.
fn end_together(outer: &mut Layer, inner: &mut Layer, data: &mut impl FnMut(&[u8])) {
    if outer.is_whole() {
        inner.finish(data);
    } else if outer.is_over() {
        inner.stop(data);
    }
    if inner.is_over() {
        outer.close();
    }
}
