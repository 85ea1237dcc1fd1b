//! A hierarchical timing wheel over dense indices: O(1) insert, cancel and pop, 16 B per index.
//!
//! ```text
//! level 0: 256 buckets of 1 tick · level 1: of 256 ticks · level 2: of 65,536 · level 3: of 2²⁴
//! ```
//!
//! Buckets are circular lists threaded through the nodes, the bucket itself being a link of its
//! list: an index is unlinked without knowing where it hangs. The same nodes thread FIFO queues
//! for what is due and waits, since an index is either due later or due already. Ticks wrap
//! at 2³²; an entry may lie at most 2³¹ − 1 ticks ahead. The wheel knows nothing of time, targets
//! or attempts.

const LEVELS: usize = 4;
const BUCKETS: usize = 256;
/// A link with this bit names a bucket, without it a node.
const BUCKET_BIT: u32 = 1 << 31;
/// A node that hangs in no list links to this.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// Of a bucket without nodes.
    fn empty(bucket: u32) -> Self {
        Self {
            prev: BUCKET_BIT | bucket,
            next: BUCKET_BIT | bucket,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    link: Link,
    due: u32,
    /// The queue that it hangs in, else [`NONE`].
    queue: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// The wheel. Indices are below 2³¹ and chosen by the caller.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    /// The buckets, then the queues.
    buckets: Vec<Link>,
    /// The last tick that was popped.
    tick: u32,
    /// Entries that are due later.
    len: usize,
    /// Entries in the queues.
    queued: usize,
}

impl Wheel {
    /// An empty wheel that has popped everything up to and including `tick`.
    pub fn new(tick: u32) -> Self {
        Self {
            nodes: Vec::new(),
            buckets: (0..(LEVELS * BUCKETS) as u32).map(Link::empty).collect(),
            tick,
            len: 0,
            queued: 0,
        }
    }

    /// Entries that are due later.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is due, ever.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries in the queues.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The last tick that was popped.
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Makes room for indices below `indices` without further allocation.
    pub fn reserve(&mut self, indices: usize) {
        if indices > self.nodes.len() {
            let link = Link {
                prev: NONE,
                next: NONE,
            };
            self.nodes.resize(
                indices,
                Node {
                    link,
                    due: 0,
                    queue: NONE,
                },
            );
        }
    }

    /// The tick at which `index` is (or was) due, `None` when it hangs nowhere.
    pub fn due(&self, index: u32) -> Option<u32> {
        let node = self.nodes.get(index as usize)?;
        (node.link.next != NONE).then_some(node.due)
    }

    /// The tick at which `index` was due when it was last put in, 0 when it never was.
    pub fn last_due(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).map_or(0, |node| node.due)
    }

    /// The queue in which `index` waits.
    pub fn queue(&self, index: u32) -> Option<u32> {
        let node = self.nodes.get(index as usize)?;
        (node.queue != NONE).then_some(node.queue)
    }

    /// Whether `index` waits in a queue.
    pub fn is_queued(&self, index: u32) -> bool {
        self.queue(index).is_some()
    }

    /// Queues that were ever used: their numbers are below this.
    pub fn queues(&self) -> u32 {
        (self.buckets.len() - LEVELS * BUCKETS) as u32
    }

    /// Puts `index` at the end of `queue`, remembering the tick at which it was due. Queues are
    /// numbered from 0 up, 8 B each.
    pub fn enqueue(&mut self, queue: u32, index: u32, due: u32) {
        self.reserve(index as usize + 1);
        self.cancel(index);
        while self.queues() <= queue {
            self.buckets.push(Link::empty(self.buckets.len() as u32));
        }
        let node = &mut self.nodes[index as usize];
        (node.due, node.queue) = (due, queue);
        self.append(index, bucket_of(queue));
        self.queued += 1;
    }

    /// The first entry of `queue` with the tick at which it was due; it stays there.
    pub fn front(&self, queue: u32) -> Option<(u32, u32)> {
        if queue >= self.queues() {
            return None;
        }
        let index = self.first_of(bucket_of(queue))?;
        Some((index, self.nodes[index as usize].due))
    }

    /// Puts `index` at `due`, or moves it there. What is due now or in the past is popped by the
    /// next tick.
    pub fn insert(&mut self, index: u32, due: u32) {
        self.reserve(index as usize + 1);
        self.cancel(index);
        let ahead = due.wrapping_sub(self.tick);
        let in_the_past = ahead == 0 || ahead >= BUCKET_BIT;
        let due = if in_the_past {
            self.tick.wrapping_add(1)
        } else {
            due
        };
        self.nodes[index as usize].due = due;
        self.hang(index);
        self.len += 1;
    }

    /// Takes `index` out; says whether it was in.
    pub fn cancel(&mut self, index: u32) -> bool {
        let Some(node) = self.nodes.get(index as usize) else {
            return false;
        };
        if node.link.next == NONE {
            return false;
        }
        self.unhang(index);
        let queue = std::mem::replace(&mut self.nodes[index as usize].queue, NONE);
        if queue == NONE {
            self.len -= 1;
        } else {
            self.queued -= 1;
        }
        true
    }

    /// Pops every index due up to and including `tick` into `due`, in the order of their ticks.
    pub fn advance(&mut self, tick: u32, due: &mut Vec<u32>) {
        while self.tick != tick {
            if self.len == 0 {
                self.tick = tick;
                return;
            }
            self.tick = self.tick.wrapping_add(1);
            self.cascade();
            let bucket = BUCKET_BIT | (self.tick & 0xff);
            while let Some(index) = self.first_of(bucket) {
                self.unhang(index);
                self.len -= 1;
                due.push(index);
            }
        }
    }

    /// Ticks, at most `most`, until the next one that has something to pop or to re-hang.
    pub fn quiet_ticks(&self, most: u32) -> u32 {
        let works = |ahead: &u32| {
            let tick = self.tick.wrapping_add(*ahead);
            let bucket = tick % BUCKETS as u32;
            bucket == 0 || self.first_of(BUCKET_BIT | bucket).is_some()
        };
        (1..most).find(works).unwrap_or(most)
    }

    /// At the turn of a level, re-hangs the next bucket of the level above.
    fn cascade(&mut self) {
        for level in 1..LEVELS {
            if self.tick & ((1u32 << (8 * level)) - 1) != 0 {
                return;
            }
            let slot = (self.tick >> (8 * level)) & 0xff;
            let bucket = BUCKET_BIT | ((level * BUCKETS) as u32 + slot);
            while let Some(index) = self.first_of(bucket) {
                self.unhang(index);
                self.hang(index);
            }
        }
    }

    fn first_of(&self, bucket: u32) -> Option<u32> {
        let next = self.buckets[(bucket & !BUCKET_BIT) as usize].next;
        (next & BUCKET_BIT == 0).then_some(next)
    }

    /// Hangs a node at the end of the bucket that its distance asks for.
    fn hang(&mut self, index: u32) {
        let due = self.nodes[index as usize].due;
        let ahead = due.wrapping_sub(self.tick);
        let level = match ahead {
            0..0x100 => 0,
            0x100..0x1_0000 => 1,
            0x1_0000..0x100_0000 => 2,
            _ => 3,
        };
        let slot = (due >> (8 * level)) & 0xff;
        self.append(index, BUCKET_BIT | ((level * BUCKETS) as u32 + slot));
    }

    fn append(&mut self, index: u32, bucket: u32) {
        let last = self.link(bucket).prev;
        self.nodes[index as usize].link = Link {
            prev: last,
            next: bucket,
        };
        self.link_mut(last).next = index;
        self.link_mut(bucket).prev = index;
    }

    fn unhang(&mut self, index: u32) {
        let Link { prev, next } = self.nodes[index as usize].link;
        self.link_mut(prev).next = next;
        self.link_mut(next).prev = prev;
        self.nodes[index as usize].link = Link {
            prev: NONE,
            next: NONE,
        };
    }

    fn link(&self, at: u32) -> Link {
        if at & BUCKET_BIT == 0 {
            self.nodes[at as usize].link
        } else {
            self.buckets[(at & !BUCKET_BIT) as usize]
        }
    }

    fn link_mut(&mut self, at: u32) -> &mut Link {
        if at & BUCKET_BIT == 0 {
            &mut self.nodes[at as usize].link
        } else {
            &mut self.buckets[(at & !BUCKET_BIT) as usize]
        }
    }
}

/// The link that is the head of `queue`.
fn bucket_of(queue: u32) -> u32 {
    BUCKET_BIT | ((LEVELS * BUCKETS) as u32 + queue)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert { index: u32, ahead: u32 },
        Enqueue { queue: u32, index: u32, due: u32 },
        TakeFront { queue: u32 },
        Cancel { index: u32 },
        Advance { ticks: u32 },
    }

    /// Few queues, so that they fill; the number that tests use is below this.
    const QUEUES: u32 = 4;

    fn steps(
        ahead: impl Strategy<Value = u32>,
        ticks: impl Strategy<Value = u32>,
        most: usize,
    ) -> impl Strategy<Value = Vec<Step>> {
        let index = || 0u32..64;
        let enqueue = (0..QUEUES, index(), any::<u32>());
        let step = prop_oneof![
            5 => (index(), ahead).prop_map(|(index, ahead)| Step::Insert { index, ahead }),
            3 => enqueue.prop_map(|(queue, index, due)| Step::Enqueue { queue, index, due }),
            1 => (0..QUEUES).prop_map(|queue| Step::TakeFront { queue }),
            1 => index().prop_map(|index| Step::Cancel { index }),
            3 => ticks.prop_map(|ticks| Step::Advance { ticks }),
        ];
        prop::collection::vec(step, 1..most)
    }

    /// What the wheel must do: an ordered map from index to due tick (not wrapped), and queues.
    struct Model {
        now: u64,
        due: BTreeMap<u32, u64>,
        queues: [VecDeque<(u32, u32)>; QUEUES as usize],
    }

    impl Model {
        fn new(start: u32) -> Self {
            Self {
                now: u64::from(start),
                due: BTreeMap::new(),
                queues: Default::default(),
            }
        }

        /// Takes `index` out, wherever it is; says whether it was in.
        fn cancel(&mut self, index: u32) -> bool {
            let mut was_in = self.due.remove(&index).is_some();
            for queue in &mut self.queues {
                let before = queue.len();
                queue.retain(|(of, _)| *of != index);
                was_in |= queue.len() < before;
            }
            was_in
        }

        /// What is popped until `now`, by tick.
        fn advance(&mut self, ticks: u32) -> Vec<(u64, u32)> {
            self.now += u64::from(ticks);
            let (now, entries) = (self.now, self.due.iter());
            let ripe = entries.filter(|(_, at)| **at <= now);
            let mut popped: Vec<(u64, u32)> = ripe.map(|(index, at)| (*at, *index)).collect();
            popped.sort_unstable();
            self.due.retain(|_, at| *at > now);
            popped
        }
    }

    /// Advances both: the same entries, in the order of their ticks.
    fn advance_both(wheel: &mut Wheel, model: &mut Model, ticks: u32) -> Result<(), TestCaseError> {
        let expected = model.advance(ticks);
        let mut popped = Vec::new();
        wheel.advance(model.now as u32, &mut popped);
        let at = |index: &u32| expected.iter().find(|(_, of)| of == index);
        let order: Vec<_> = popped
            .iter()
            .map(|index| at(index).map(|(at, _)| *at))
            .collect();
        prop_assert!(order.windows(2).all(|pair| pair[0] <= pair[1]));
        popped.sort_unstable();
        let mut indices: Vec<u32> = expected.iter().map(|(_, index)| *index).collect();
        indices.sort_unstable();
        prop_assert_eq!(popped, indices);
        Ok(())
    }

    fn step_both(wheel: &mut Wheel, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Insert { index, ahead } => {
                wheel.insert(index, (model.now as u32).wrapping_add(ahead));
                model.cancel(index);
                model.due.insert(index, model.now + u64::from(ahead.max(1)));
            }
            Step::Enqueue { queue, index, due } => {
                wheel.enqueue(queue, index, due);
                model.cancel(index);
                model.queues[queue as usize].push_back((index, due));
            }
            Step::TakeFront { queue } => {
                let front = wheel.front(queue);
                prop_assert_eq!(front, model.queues[queue as usize].pop_front());
                if let Some((index, _)) = front {
                    prop_assert!(wheel.is_queued(index) && wheel.cancel(index));
                }
            }
            Step::Cancel { index } => prop_assert_eq!(wheel.cancel(index), model.cancel(index)),
            Step::Advance { ticks } => advance_both(wheel, model, ticks)?,
        }
        prop_assert_eq!(wheel.len(), model.due.len());
        let queued: usize = model.queues.iter().map(VecDeque::len).sum();
        prop_assert_eq!(wheel.queued(), queued);
        for (queue, entries) in (0..).zip(&model.queues) {
            prop_assert_eq!(wheel.front(queue), entries.front().copied());
        }
        Ok(())
    }

    /// Takes everything out: the entries by jumps of `ticks`, the queues from their fronts.
    fn drain_both(wheel: &mut Wheel, model: &mut Model, ticks: u32) -> Result<(), TestCaseError> {
        while !model.due.is_empty() {
            advance_both(wheel, model, ticks)?;
        }
        for queue in 0..QUEUES {
            while model.queues[queue as usize].front().is_some() {
                step_both(wheel, model, &Step::TakeFront { queue })?;
            }
        }
        prop_assert!(wheel.is_empty() && wheel.queued() == 0);
        Ok(())
    }

    proptest! {
        #[test]
        fn the_wheel_pops_what_an_ordered_map_pops(
            steps in steps(
                prop_oneof![0u32..300, 200u32..70_000, 60_000u32..20_000_000],
                prop_oneof![1u32..4, 1u32..600, 1u32..200_000],
                120,
            ),
            start in prop_oneof![Just(0u32), Just(u32::MAX - 500), any::<u32>()],
        ) {
            let (mut wheel, mut model) = (Wheel::new(start), Model::new(start));
            for step in &steps {
                step_both(&mut wheel, &mut model, step)?;
            }
        }
    }

    proptest! {
        // A jump turns the wheel tick by tick, as a core does: some 20 million of them a case.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_top_level_gives_out_all_that_it_took(
            first in prop::collection::vec((0u32..64, 0x100_0000u32..60_000_000), 1..20),
            steps in steps(
                prop_oneof![0u32..70_000, 0x80_0000u32..60_000_000],
                1_000_000u32..20_000_000,
                12,
            ),
            turn in prop_oneof![Just(0u32), 1u32..256],
            before in 0u32..200_000,
            jump in 1_000_000u32..20_000_000,
        ) {
            // Just below a turn of the top level, the last of which wraps.
            let start = (turn << 24).wrapping_sub(1 + before);
            let (mut wheel, mut model) = (Wheel::new(start), Model::new(start));
            for (index, ahead) in first {
                step_both(&mut wheel, &mut model, &Step::Insert { index, ahead })?;
            }
            for step in &steps {
                step_both(&mut wheel, &mut model, step)?;
            }
            drain_both(&mut wheel, &mut model, jump)?;
        }
    }

    proptest! {
        #[test]
        fn nothing_is_due_in_the_ticks_that_are_called_quiet(
            start in any::<u32>(),
            ahead in prop::collection::vec(1u32..2_000, 1..20),
        ) {
            let mut wheel = Wheel::new(start);
            for (index, ahead) in ahead.iter().enumerate() {
                wheel.insert(index as u32, start.wrapping_add(*ahead));
            }
            let mut popped = Vec::new();
            while !wheel.is_empty() {
                let quiet = wheel.quiet_ticks(5);
                prop_assert!((1..=5).contains(&quiet));
                wheel.advance(wheel.tick().wrapping_add(quiet - 1), &mut popped);
                prop_assert_eq!(&popped, &Vec::<u32>::new());
                wheel.advance(wheel.tick().wrapping_add(1), &mut popped);
                popped.clear();
            }
        }
    }

    #[test]
    fn quiet_ticks_end_with_the_next_entry_or_the_turn_of_a_level() {
        let mut wheel = Wheel::new(0x110);
        assert_eq!(wheel.quiet_ticks(5), 5);
        wheel.insert(0, 0x113);
        assert_eq!((wheel.quiet_ticks(5), wheel.quiet_ticks(2)), (3, 2));
        assert_eq!(Wheel::new(0x1fe).quiet_ticks(5), 2);
    }

    #[test]
    fn a_moved_entry_is_due_once_and_at_its_new_tick() {
        let mut wheel = Wheel::new(10);
        wheel.insert(3, 400);
        wheel.insert(3, 12);
        assert_eq!(wheel.due(3), Some(12));
        let mut due = Vec::new();
        wheel.advance(500, &mut due);
        assert_eq!(due, [3]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn queues_are_first_in_first_out_and_anything_can_leave_the_middle() {
        let mut wheel = Wheel::new(0);
        for index in 0..5 {
            wheel.enqueue(1, index, 7 + index);
        }
        wheel.insert(2, 100);
        assert!(wheel.cancel(3) && !wheel.is_queued(3));
        let mut order = Vec::new();
        while let Some((index, due)) = wheel.front(1) {
            wheel.cancel(index);
            order.push((index, due));
        }
        assert_eq!(order, [(0, 7), (1, 8), (4, 11)]);
        assert_eq!(
            (wheel.queued(), wheel.len(), wheel.due(2)),
            (0, 1, Some(100))
        );
    }

    #[test]
    fn what_is_late_already_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new(1_000);
        wheel.insert(1, 5);
        let mut due = Vec::new();
        wheel.advance(1_001, &mut due);
        assert_eq!(due, [1]);
    }
}
