//! Seeded random interleavings of the model world. A failure prints its seed; `RESTANTE_SEED=<seed> cargo test --lib
//! interleavings -- --nocapture` runs that one alone and prints every input with its effects.

use std::thread;

use super::world::World;

const SEEDS: u64 = 1_500;
const STEPS: u32 = 400;

/// Names the seed when the run under it panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with RESTANTE_SEED={}", self.0);
        }
    }
}

fn run(seed: u64, trace: bool) {
    let _named = Seed(seed);
    let mut world = World::new(seed, trace);
    for _ in 0..STEPS {
        world.step();
    }
    world.come_to_rest();
}

#[test]
fn whatever_the_order_nothing_is_lost_repeated_in_effect_or_out_of_order() {
    match std::env::var("RESTANTE_SEED") {
        Ok(seed) => run(seed.parse().expect("RESTANTE_SEED is a number"), true),
        Err(_) => {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            thread::scope(|scope| {
                for first in 0..threads {
                    scope.spawn(move || (0..SEEDS).skip(first).step_by(threads).for_each(|seed| run(seed, false)));
                }
            });
        }
    }
}
