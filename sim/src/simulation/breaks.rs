//! What goes wrong in a simulation of a user: the cluster's faults, and what hits the application hosts.

use std::{fmt, time::Duration};

use crate::{
    faults::{Fault, Planned},
    run::Profile,
    seed::Seed,
};

/// What hits an application host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppFault {
    /// The process dies: memory is gone, what it wrote to files stays.
    Kill,
    /// The machine loses power: memory is gone, and so are writes to files that were not synced.
    PowerLoss,
    /// Nothing that the host sends arrives anywhere, and nothing reaches it; it goes on running.
    CutOff,
}

/// A fault against an application host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppBreak {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasting: Duration,
    /// The host.
    pub app: String,
    /// What happens.
    pub fault: AppFault,
}

impl fmt::Display for AppBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at_ms, for_ms) = (self.at.as_millis(), self.lasting.as_millis());
        write!(f, "at {at_ms} ms for {for_ms} ms: {:?} {}", self.fault, self.app)
    }
}

/// What goes wrong: nothing, what the seed draws, a script, or the last two together.
#[derive(Clone, Debug, Default)]
pub struct Breaks {
    pub(super) drawn: Option<Profile>,
    pub(super) cluster: Vec<Planned>,
    pub(super) apps: Vec<AppBreak>,
}

impl Breaks {
    /// Nothing goes wrong.
    pub fn none() -> Breaks {
        Breaks::default()
    }

    /// The seed draws faults against the cluster, as often and of the kinds that `profile` has, and against every
    /// application host: kills, losses of power, cuts.
    pub fn random(profile: Profile) -> Breaks {
        Breaks {
            drawn: Some(profile),
            ..Breaks::default()
        }
    }

    /// A script, empty: [`Breaks::cluster`] and [`Breaks::app`] fill it.
    pub fn script() -> Breaks {
        Breaks::default()
    }

    /// Adds a fault against the cluster.
    pub fn cluster(mut self, at: Duration, lasting: Duration, fault: Fault) -> Breaks {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.cluster.push(Planned {
            at_ms: ms(at),
            for_ms: ms(lasting),
            fault,
        });
        self
    }

    /// Adds a fault against an application host.
    pub fn app(mut self, at: Duration, lasting: Duration, app: &str, fault: AppFault) -> Breaks {
        self.apps.push(AppBreak {
            at,
            lasting,
            app: app.to_owned(),
            fault,
        });
        self
    }
}

/// Faults against the hosts `apps`, drawn from the seed's stream `app faults`, in order of time.
pub(super) fn draw(seed: Seed, apps: &[String], from: Duration, until: Duration) -> Vec<AppBreak> {
    let mut draws = seed.stream("app faults");
    let ms = Duration::from_millis;
    let mut breaks = Vec::new();
    if apps.is_empty() {
        return breaks;
    }
    let gap_ms_max = draws.pick(&[2_000, 4_000, 8_000]);
    let mut at = from + ms(draws.between(0, gap_ms_max));
    while at < until {
        let fault = draws.pick(&[AppFault::Kill, AppFault::Kill, AppFault::PowerLoss, AppFault::CutOff]);
        let lasting = ms(draws.pick(&[10, 300, 1_500, 4_000]) + draws.between(0, 500));
        let app = apps[draws.below(apps.len())].clone();
        breaks.push(AppBreak {
            at,
            lasting,
            app,
            fault,
        });
        at += ms(draws.between(200, gap_ms_max));
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_apps_follow_from_the_seed_and_hit_every_app() {
        let apps = ["shop".to_owned(), "billing".to_owned()];
        let (from, until) = (Duration::from_secs(3), Duration::from_secs(300));
        let drawn = draw(Seed(7), &apps, from, until);
        assert_eq!(drawn, draw(Seed(7), &apps, from, until));
        assert_ne!(drawn, draw(Seed(8), &apps, from, until));
        assert!(drawn.iter().all(|planned| planned.at >= from && planned.at < until));
        for app in apps {
            assert!(drawn.iter().any(|planned| planned.app == app));
        }
        assert_eq!(draw(Seed(7), &[], from, until), []);
    }
}
