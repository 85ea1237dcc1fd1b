//! The fleet as the control plane feeds it: which target sits in which slot of which core, and
//! the commands that make it so. The sink hears of a slot before its core does.

use crossbeam_channel::{Receiver, Sender};
use model::inbox::CoreCommand;
use model::{CoreIndex, Slot, Target, TargetId};
use persist::{Registration, SinkCommand};

use super::send::{Ended, send};
use crate::targets::slots::Slots;

/// Slots of all cores, and the channels to cores and sink.
pub(crate) struct Fleet {
    cores: Vec<(Slots, Sender<CoreCommand>)>,
    sink: Sender<SinkCommand>,
    released: Receiver<(CoreIndex, Slot)>,
}

/// What one page of targets changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Targets placed or replaced.
    pub(crate) upserted: u64,
    /// Targets that lost their slot.
    pub(crate) removed: u64,
}

impl std::ops::AddAssign for Fed {
    fn add_assign(&mut self, other: Self) {
        self.upserted += other.upserted;
        self.removed += other.removed;
    }
}

impl Fleet {
    /// An empty fleet over the inboxes of the cores, in the order of their indices.
    pub(crate) fn new(
        inboxes: Vec<Sender<CoreCommand>>,
        sink: Sender<SinkCommand>,
        released: Receiver<(CoreIndex, Slot)>,
    ) -> Self {
        let cores = inboxes
            .into_iter()
            .map(|inbox| (Slots::default(), inbox))
            .collect();
        Self {
            cores,
            sink,
            released,
        }
    }

    /// Targets that have a slot.
    pub(crate) fn len(&self) -> usize {
        self.cores.iter().map(|(slots, _)| slots.len()).sum()
    }

    /// Brings the fleet in line with `targets`: active ones are placed or replaced, others removed.
    pub(crate) async fn feed(&mut self, targets: Vec<Target>) -> Result<Fed, Ended> {
        self.collect_released();
        let (active, inactive): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| target.active);
        let inactive: Vec<TargetId> = inactive.iter().map(|target| target.id).collect();
        let fed = Fed {
            removed: self.take_away(&inactive, None).await?,
            upserted: active.len() as u64,
        };
        self.upsert(active).await?;
        Ok(fed)
    }

    /// Takes the targets `ids` away; how many of them had a place. `by`: who paused them. One that
    /// has none, a bad row, may have an incident from before the start.
    pub(crate) async fn take_away(
        &mut self,
        ids: &[TargetId],
        by: Option<&str>,
    ) -> Result<u64, Ended> {
        let by = by.map(str::to_owned);
        let (mut removed, mut targets) = (0, Vec::new());
        for &id in ids {
            if self.remove(id, by.clone()).await? {
                removed += 1;
            } else {
                targets.push(id);
            }
        }
        if !targets.is_empty() {
            send(&self.sink, SinkCommand::Abandon { targets, by }, SINK).await?;
        }
        Ok(removed)
    }

    /// Where the target `id` is.
    pub(crate) fn find(&self, id: TargetId) -> Option<(CoreIndex, Slot)> {
        let core = self.core_of(id);
        let slot = self.cores[core].0.find(id)?;
        Some((CoreIndex(core as u16), slot))
    }

    /// Targets after an id and up to another one, in no order; `None`: without an end.
    pub(crate) fn between(
        &self,
        after: Option<TargetId>,
        last: Option<TargetId>,
    ) -> impl Iterator<Item = (TargetId, CoreIndex, Slot)> {
        let cores = self.cores.iter().enumerate();
        cores.flat_map(move |(core, (slots, _))| {
            let of_core = slots.between(after, last);
            of_core.map(move |(id, slot)| (id, CoreIndex(core as u16), slot))
        })
    }

    /// Asks the owning core to check `id` now; whether it has such a target.
    pub(crate) async fn check_now(&self, id: TargetId) -> Result<bool, Ended> {
        let (slots, inbox) = &self.cores[self.core_of(id)];
        let Some(slot) = slots.find(id) else {
            return Ok(false);
        };
        send(inbox, CoreCommand::CheckNow { slot }, CORE).await?;
        Ok(true)
    }

    /// Pauses or resumes all cores.
    pub(crate) async fn pause(&self, on: bool) -> Result<(), Ended> {
        for (_, inbox) in &self.cores {
            send(inbox, CoreCommand::Pause(on), CORE).await?;
        }
        Ok(())
    }

    /// Makes slots whose last word was heard free again.
    pub(crate) fn collect_released(&mut self) {
        for (core, slot) in self.released.try_iter() {
            self.cores[usize::from(core.0)].0.released(slot);
        }
    }

    async fn upsert(&mut self, targets: Vec<Target>) -> Result<(), Ended> {
        let mut registrations = Vec::with_capacity(targets.len());
        let mut commands = Vec::with_capacity(targets.len());
        let mut placed = Vec::with_capacity(targets.len());
        for target in targets {
            let core = self.core_of(target.id);
            let slot = self.cores[core].0.place(target.id);
            registrations.push(registration(core, slot, &target));
            placed.push((CoreIndex(core as u16), slot));
            commands.push((
                core,
                CoreCommand::Upsert {
                    slot,
                    target: Box::new(target),
                },
            ));
        }
        if !registrations.is_empty() {
            send(&self.sink, SinkCommand::Register(registrations), SINK).await?;
        }
        for (core, command) in commands {
            send(&self.cores[core].1, command, CORE).await?;
        }
        if !placed.is_empty() {
            send(&self.sink, SinkCommand::Placed(placed), SINK).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, id: TargetId, by: Option<String>) -> Result<bool, Ended> {
        let core = self.core_of(id);
        let Some(slot) = self.cores[core].0.retire(id) else {
            return Ok(false);
        };
        let index = CoreIndex(core as u16);
        let retire = SinkCommand::Retire {
            core: index,
            slot,
            by,
        };
        send(&self.sink, retire, SINK).await?;
        send(&self.cores[core].1, CoreCommand::Remove { slot }, CORE).await?;
        Ok(true)
    }

    fn core_of(&self, id: TargetId) -> usize {
        usize::from(id.shard().core(self.cores.len() as u16).0)
    }
}

const CORE: &str = "a probe core";
const SINK: &str = "the sink";

fn registration(core: usize, slot: Slot, target: &Target) -> Registration {
    Registration {
        core: CoreIndex(core as u16),
        slot,
        target: target.id,
        group_id: target.config.group_id,
        method: target.config.check.http().map(|http| http.method),
        generation: target.generation,
        interval_s: target.config.interval_s,
        cadence_ms: target.config.cadence_ms(),
        maintenance: target.config.maintenance,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crossbeam_channel::{bounded, unbounded};
    use model::{Generation, TargetSpec};

    use super::*;

    pub(in crate::run) fn target(id: i64, active: bool) -> Target {
        let spec = TargetSpec {
            url: format!("http://t{id}.example/"),
            ..TargetSpec::default()
        };
        let id = TargetId::new(id).expect("positive");
        let config = spec.parse().expect("valid");
        Target {
            id,
            generation: Generation(1),
            active,
            config,
        }
    }

    #[tokio::test]
    async fn targets_land_on_the_core_of_their_shard_after_the_sink_has_heard() {
        let (inboxes, cores): (Vec<_>, Vec<_>) = (0..3).map(|_| unbounded()).unzip();
        let (sink, heard) = unbounded();
        let (_release, released) = bounded(8);
        let mut fleet = Fleet::new(inboxes, sink, released);
        let fed = fleet
            .feed((1..=100).map(|id| target(id, true)).collect())
            .await
            .expect("fed");
        assert_eq!((fed.upserted, fleet.len()), (100, 100));
        let Ok(SinkCommand::Register(registered)) = heard.try_recv() else {
            panic!("registered")
        };
        assert_eq!(registered.len(), 100);
        let Ok(SinkCommand::Placed(placed)) = heard.try_recv() else {
            panic!("placed")
        };
        assert_eq!(placed.len(), 100);
        for (index, core) in cores.iter().enumerate() {
            for (dense, command) in core.try_iter().enumerate() {
                let CoreCommand::Upsert { slot, target } = command else {
                    panic!("upsert")
                };
                assert_eq!(slot.index(), dense);
                assert_eq!(usize::from(target.id.shard().core(3).0), index);
            }
        }
    }

    #[tokio::test]
    async fn the_sink_hears_of_maintenance_windows_and_of_their_end() {
        let (inbox, _core) = unbounded();
        let (sink, heard) = unbounded();
        let (_release, released) = bounded(8);
        let mut fleet = Fleet::new(vec![inbox], sink, released);
        let window = model::target::Maintenance {
            start_ms: 1_000,
            end_ms: 2_000,
        };
        for maintenance in [Some(window), None] {
            let mut edited = target(1, true);
            edited.config.maintenance = maintenance;
            fleet.feed(vec![edited]).await.expect("fed");
            let Ok(SinkCommand::Register(registered)) = heard.try_recv() else {
                panic!("registered")
            };
            assert_eq!(registered[0].maintenance, maintenance);
            assert!(matches!(heard.try_recv(), Ok(SinkCommand::Placed(_))));
        }
    }

    #[tokio::test]
    async fn a_slot_is_used_again_only_after_the_sink_released_it() {
        let (inbox, core) = unbounded();
        let (sink, heard) = unbounded();
        let (release, released) = bounded(8);
        let mut fleet = Fleet::new(vec![inbox], sink, released);
        fleet.feed(vec![target(1, true)]).await.expect("fed");
        let fed = fleet
            .feed(vec![target(1, false), target(2, true)])
            .await
            .expect("fed");
        assert_eq!((fed.removed, fed.upserted, fleet.len()), (1, 1, 1));
        assert!(
            heard
                .try_iter()
                .any(|c| matches!(c, SinkCommand::Retire { slot: Slot(0), .. }))
        );
        release.send((CoreIndex(0), Slot(0))).expect("room");
        fleet.feed(vec![target(3, true)]).await.expect("fed");
        let slots: Vec<u32> = core
            .try_iter()
            .filter_map(|command| match command {
                CoreCommand::Upsert { slot, .. } => Some(slot.0),
                _ => None,
            })
            .collect();
        assert_eq!(slots, [0, 1, 0]);
        let removed = TargetId::new(1).expect("positive");
        assert!(!fleet.check_now(removed).await.expect("alive"));
    }

    #[tokio::test]
    async fn what_goes_without_a_slot_is_told_to_the_sink_all_the_same() {
        let (inbox, _core) = unbounded();
        let (sink, heard) = unbounded();
        let (_release, released) = bounded(8);
        let mut fleet = Fleet::new(vec![inbox], sink, released);
        let id = |raw| TargetId::new(raw).expect("positive");
        fleet.feed(vec![target(1, true)]).await.expect("fed");
        let gone = fleet.take_away(&[id(1), id(2)], Some("ann")).await;
        assert_eq!(gone.expect("alive"), 1);
        let abandoned = heard.try_iter().find_map(|command| match command {
            SinkCommand::Abandon { targets, by } => Some((targets, by)),
            _ => None,
        });
        assert_eq!(abandoned, Some((vec![id(2)], Some("ann".to_owned()))));
    }
}
