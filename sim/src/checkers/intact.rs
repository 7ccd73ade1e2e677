//! What is durable stays whole: a disk is damaged only where a fault damaged it. Looked up on the simulated disks, as a loss of
//! power now would leave them; what a loss of power tears is no damage.

use crate::witness::DiskLook;

/// `excused`: a fault flipped a bit there.
pub fn check(replica: &str, excused: bool, look: &DiskLook) -> Option<String> {
    let damage = look.damage.as_ref().filter(|_| !excused)?;
    Some(format!(
        "intact: on the disks of {replica}, which no fault damaged: {damage}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_without_a_fault_is_seen() {
        let damaged = DiskLook {
            damage: Some("entry 7".to_owned()),
            ..DiskLook::default()
        };
        assert!(check("replica-1", false, &damaged).is_some());
        assert_eq!(check("replica-1", true, &damaged), None);
        assert_eq!(check("replica-1", false, &DiskLook::default()), None);
    }
}
