//! The end of a history: one bit is flipped in any file.

use super::*;

impl World {
    /// The files of the replica.
    fn files(&self) -> Vec<PathBuf> {
        let below = |dir: PathBuf| {
            let names = self.disk.list(&dir).expect("a folder");
            names.into_iter().map(move |name| dir.join(name))
        };
        let log = Path::new(DIR).join("log");
        below(DIR.into()).chain(below(log)).collect()
    }

    /// One flipped bit somewhere: the replica refuses to start, or has, and serves, only what is right. What was sealed is
    /// never cut.
    pub(super) async fn rot(mut self) {
        self.disk.heal();
        self.disk.capacity_bytes(None);
        let sealed = self.choices.one_in(2);
        self.restart(if sealed { End::Close } else { End::Crash }).await;
        if sealed {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if let Some(replica) = self.replica.take() {
            replica.end(End::Kill, &self.disk).await;
        }
        self.machine.crash();
        let files = self.files();
        let path = &files[self.choices.below(files.len() as u64) as usize];
        let len = self
            .disk
            .open(path, Open::Read)
            .and_then(|file| file.len())
            .expect("a file");
        if len == 0 || self.disk.flip_bit(path, self.choices.below(len)).is_err() {
            return;
        }
        let Ok(replica) = self.open().await else { return };
        let state = replica.log.state();
        assert_eq!(replica.log.vote(), self.held.vote, "the vote survives a rotten bit");
        assert_eq!(state.purged, self.held.purged);
        let end = state.last.map_or(0, |id| id.index.get() + 1);
        assert!(end <= self.held.end());
        assert!(!sealed || end == self.held.end(), "sealed entries were cut");
        for index in self.held.first()..end {
            match replica.log.read(LogIndex(index), LogIndex(index + 1), 1) {
                Ok(frames) => assert_eq!(frames, [self.held.entries[&index].clone()]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
        self.check_state();
        replica.end(End::Kill, &self.disk).await;
    }
}
