//! What operators are told to do in the middle of it.

use super::{Chaos, Due, Stage};
use crate::fleet::{Order, PASSING_TOPIC};

impl Chaos {
    pub(super) fn transfer(&mut self, stage: &mut Stage<'_>, machine: usize) {
        stage.board.mark("transfer");
        stage
            .trace
            .tell("chaos", format!("{} is to lead", stage.title(machine)));
        let group = stage.fleet.group_of(machine);
        stage.fleet.order(group, Order::Transfer(machine));
    }

    /// One voter more or less until `until_ms`.
    pub(super) fn resize(&mut self, stage: &mut Stage<'_>, group: usize, by: isize, until_ms: u64) {
        let usual = stage.fleet.usual(group);
        let Some(voters) = usual.checked_add_signed(by).filter(|voters| *voters > 0) else {
            return;
        };
        if !stage.fleet.is_settled(group) || stage.fleet.wanted(group) != usual {
            return;
        }
        // Nobody takes a good copy out while another one is damaged.
        let mut seated = stage.fleet.seats(group).into_values();
        if by < 0 && seated.any(|machine| stage.board.is_damaged(machine)) {
            return;
        }
        stage.board.mark(if by > 0 { "grow" } else { "shrink" });
        stage.trace.tell(
            "chaos",
            format!("broker group {} is to have {voters} voters", group + 1),
        );
        stage.fleet.want(group, voters);
        self.schedule(until_ms, Due::Want(group, usual));
    }

    pub(super) fn swap(&mut self, stage: &mut Stage<'_>, machine: usize) {
        let group = stage.fleet.group_of(machine);
        let seat = stage.fleet.seat(machine);
        if let Some(seat) = seat.filter(|_| stage.fleet.is_settled(group)) {
            stage.board.mark("swap");
            stage
                .trace
                .tell("chaos", format!("{} is to be replaced", stage.title(machine)));
            stage.fleet.leave(group, seat.id);
        }
    }

    pub(super) fn topic(&mut self, stage: &mut Stage<'_>, number: u64, until_ms: u64) {
        let name = format!("{PASSING_TOPIC}{number}");
        stage.board.mark("topic");
        stage.fleet.order(0, Order::CreateTopic(name.clone()));
        self.schedule(until_ms, Due::DeleteTopic(name));
    }
}
