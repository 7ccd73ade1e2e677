//! Steps of a history that concern snapshots: what is labelled and forgotten, and what is received and installed.

use super::*;

impl World {
    /// Labels a snapshot with an entry that the machine let go of, and purges up to there, or not as far.
    pub(super) async fn forget(&mut self) {
        let released = self.machine.released().borrow().get();
        let first = self.held.first();
        let end = (released + 1).min(self.applied_end()).min(self.held.end());
        // Nothing was let go of yet when it is 0.
        if released > 0 && end > first {
            let label = self.held.entries[&self.choices.between(first, end - 1)].id;
            let earlier = self.replica().labels.current();
            let labelled = self.replica().label(label).await.expect("the state is whole");
            // A label never goes back, and is later where no membership is known.
            let found = labelled
                .meta
                .last_log_id
                .as_ref()
                .map(entry_id)
                .expect("there is a label");
            assert!(found >= label && Some(found) >= earlier && found.index.get() < self.applied_end());
            assert_eq!(
                self.truth.id(found.index.get()),
                Some(found),
                "another entry is a label"
            );
            assert_eq!(
                labelled.meta.last_membership,
                self.truth.membership_at(found.index.get())
            );
            let Content::View(view) = labelled.snapshot else {
                panic!("the state is here");
            };
            let (id, fold) = told(view.as_ref());
            assert!(
                id >= label && fold == self.truth.fold(id.index.get()),
                "the snapshot's state"
            );
        }
        let labelled = self.replica().labels.current();
        let Some(label) = labelled.filter(|label| label.index.get() >= first) else {
            return;
        };
        let upto = match self.choices.one_in(4) {
            true => self.held.entries[&self.choices.between(first, label.index.get())].id,
            false => label,
        };
        let patience = self.draw_patience();
        let outcome = patience.wait(self.replica().store.purge(log_id(upto))).await;
        if self.ended(outcome, Flight::Purge { upto }).await {
            self.held.purge(upto);
            self.acked = self.acked.max(upto.index.get() + 1);
        }
    }

    /// The leader sends a snapshot.
    pub(super) async fn install(&mut self) {
        if !self.follow().await {
            return;
        }
        let (first, export) = (self.truth.purged.max(self.applied_end()).max(1), self.truth.export());
        let label = match self.transfer.filter(|label| label.index.get() >= first) {
            Some(label) => label,
            None if first < self.truth.committed => {
                let index = self.choices.between(first, self.truth.committed - 1);
                self.truth.entry(index).id
            }
            None => return,
        };
        self.transfer = Some(label);
        let (patience, membership) = (self.draw_patience(), self.truth.membership_at(label.index.get()));
        let outcome = patience.wait(self.replica().receive(&export, label, membership)).await;
        let untouched = self.machine.is_whole() && self.applied_end() <= label.index.get();
        if matches!(outcome, Some(Err(_))) && untouched && self.replica().log.poison().is_none() {
            // The spool alone failed, and the replica goes on.
            return;
        }
        if self.ended(outcome, Flight::Install { label }).await {
            self.installed(label);
            self.check_state();
        }
    }

    pub(super) fn installed(&mut self, label: EntryId) {
        self.held.purge(label);
        self.acked = self.acked.max(label.index.get() + 1);
        self.transfer = None;
    }
}
