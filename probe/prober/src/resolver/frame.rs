//! One message out of a byte stream: two bytes of length, then the message (RFC 1035 §4.2.2).
//!
//! It holds at most one message of 65,535 bytes and grows with what comes, not with what is
//! claimed. It does not know what a message says.

/// A message that is arriving.
#[derive(Debug, Default)]
pub(super) struct Frame {
    length: [u8; 2],
    /// Bytes of `length` that have come.
    prefix: usize,
    message: Vec<u8>,
}

impl Frame {
    /// Takes the next bytes; the message when it is complete. What follows it is not looked at.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Option<&[u8]> {
        while self.prefix < self.length.len() {
            let (first, rest) = bytes.split_first()?;
            self.length[self.prefix] = *first;
            self.prefix += 1;
            bytes = rest;
        }
        let length = usize::from(u16::from_be_bytes(self.length));
        let missing = length - self.message.len();
        self.message
            .extend_from_slice(&bytes[..missing.min(bytes.len())]);
        (self.message.len() == length).then_some(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_message_is_a_message() {
        assert_eq!(Frame::default().push(&[0]), None);
        assert_eq!(Frame::default().push(&[0, 0, 7]), Some(&[][..]));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_message_and_nothing_before_its_end(
            message in prop::collection::vec(any::<u8>(), 0..600),
            after in prop::collection::vec(any::<u8>(), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
            bytes.extend_from_slice(&message);
            let whole = bytes.len();
            bytes.extend_from_slice(&after);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut frame = Frame::default();
            for cut in cuts.windows(2) {
                let found = frame.push(&bytes[cut[0]..cut[1]]).map(<[u8]>::to_vec);
                prop_assert_eq!(found, (cut[1] >= whole).then(|| message.clone()));
            }
        }
    }
}
