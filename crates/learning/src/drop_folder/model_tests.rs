//! Everything that writers and rotators do, in any order, against a model of what must come of it: which lines are taken,
//! and how many bytes are told as gaps, exactly.
//!
//! Nothing happens during a pass here, so that what the reader has seen is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    os::unix::fs::MetadataExt,
};

use super::{
    Settings,
    tests::{House, line},
};

const NAMES: [&str; 2] = ["a.jsonl", "b.jsonl"];

/// A file as it should be known.
#[derive(Clone, Debug, Default)]
struct Modelled {
    content: Vec<u8>,
    /// Lines by where they end, of the content there is now.
    lines: Vec<(usize, u64)>,
    /// What the reader has taken and seen of the life that it knows.
    taken: usize,
    seen: usize,
    /// That life has ended since.
    is_over: bool,
    /// How much of the life that the reader knows stands in a copy.
    covered: usize,
}

#[derive(Default)]
struct Model {
    /// By inode.
    files: BTreeMap<u64, Modelled>,
    names: BTreeMap<String, u64>,
    expected: BTreeSet<u64>,
    gap_bytes: u64,
    next: u64,
    rotations: u32,
}

impl Model {
    /// Ends the life of a file that the reader may know.
    fn end_life(file: &mut Modelled) {
        file.content.clear();
        file.lines.clear();
        file.is_over = true;
    }
}

struct Play {
    house: House,
    model: Model,
    random: fastrand::Rng,
    done: Vec<String>,
}

impl Play {
    fn note(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }

    fn inode(&self, name: &str) -> u64 {
        fs::metadata(self.house.path(name)).unwrap().ino()
    }

    fn any_name(&mut self) -> Option<String> {
        let names: Vec<_> = self.model.names.keys().cloned().collect();
        self.random.choice(names)
    }

    fn append(&mut self, name: &str) {
        self.house.write(name, "");
        let inode = self.inode(name);
        self.model.names.insert(name.to_owned(), inode);
        let file = self.model.files.entry(inode).or_default();
        // What was begun is finished first, or is none: nobody writes into the half line of another.
        let from = file.content.len();
        let half = file.content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if half < file.content.len() {
            let number: u64 = std::str::from_utf8(&file.content[half + 10..half + 19]).unwrap().parse().unwrap();
            let whole = line(number - 100_000_000);
            file.content.extend(&whole.as_bytes()[file.content.len() - half..]);
            file.lines.push((file.content.len(), number));
        }
        for _ in 0..self.random.usize(0..12) {
            self.model.next += 1;
            file.content.extend(line(self.model.next).as_bytes());
            file.lines.push((file.content.len(), self.model.next + 100_000_000));
        }
        if self.random.u8(..) < 60 {
            self.model.next += 1;
            let whole = line(self.model.next);
            // With its number, so that no other one begins like it.
            file.content.extend(&whole.as_bytes()[..self.random.usize(20..whole.len())]);
        }
        let more = file.content[from..].to_vec();
        self.note(format!("append {} to {name}", more.len()));
        self.house.write(name, more);
    }

    fn truncate(&mut self, name: &str) {
        OpenOptions::new().write(true).truncate(true).open(self.house.path(name)).unwrap();
        let inode = self.model.names[name];
        if let Some(file) = self.model.files.get_mut(&inode) {
            Model::end_life(file);
        }
        self.note(format!("truncate {name}"));
    }

    fn rotated(&mut self, name: &str) -> String {
        self.model.rotations += 1;
        format!("{name}.{}", self.model.rotations)
    }

    fn rename(&mut self, name: &str) {
        let to = self.rotated(name);
        fs::rename(self.house.path(name), self.house.path(&to)).unwrap();
        let inode = self.model.names.remove(name).unwrap();
        self.model.names.insert(to.clone(), inode);
        self.note(format!("rename {name} to {to}"));
    }

    /// Copies a file and truncates it, as whoever holds its lock does.
    fn copy_and_truncate(&mut self, name: &str) {
        let to = self.rotated(name);
        fs::copy(self.house.path(name), self.house.path(&to)).unwrap();
        let (inode, copy) = (self.model.names[name], self.inode(&to));
        let original = self.model.files.get_mut(&inode).unwrap();
        let mut made =
            Modelled { content: original.content.clone(), lines: original.lines.clone(), ..Modelled::default() };
        if !original.is_over {
            (made.taken, original.covered) = (original.taken, original.content.len());
        }
        self.model.names.insert(to.clone(), copy);
        self.model.files.insert(copy, made);
        self.note(format!("copy {name} to {to}"));
        self.truncate(name);
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.house.path(name)).unwrap();
        let inode = self.model.names.remove(name).unwrap();
        let file = self.model.files.remove(&inode).unwrap();
        self.model.gap_bytes += file.seen.saturating_sub(file.taken.max(file.covered)) as u64;
        self.note(format!("remove {name}, inode {inode}"));
    }

    /// Lets the reader see everything, and notes what it must have seen.
    async fn pass(&mut self) {
        self.note("pass");
        self.house.pass().await;
        for file in self.model.files.values_mut() {
            if std::mem::take(&mut file.is_over) {
                self.model.gap_bytes += file.seen.saturating_sub(file.taken.max(file.covered)) as u64;
                (file.taken, file.seen) = (0, 0);
            }
            file.covered = 0;
            let taken = file.lines.last().map_or(0, |(end, _)| *end);
            self.model
                .expected
                .extend(file.lines.iter().filter(|(end, _)| *end > file.taken).map(|(_, number)| *number));
            (file.taken, file.seen) = (taken.max(file.taken), file.content.len());
        }
    }

    /// After a start only what stands in the marks was seen.
    fn restart(&mut self) {
        self.note("restart");
        self.house.restart();
        let known = self.house.folder.files().unwrap();
        for (inode, file) in &mut self.model.files {
            let known = known.iter().find(|known| known.inode == *inode);
            file.seen = known.map_or(0, |known| usize::try_from(known.seen).unwrap());
        }
    }

    async fn step(&mut self) {
        let base = *self.random.choice(&NAMES).unwrap();
        let is_there = self.model.names.contains_key(base);
        match self.random.u8(0..20) {
            0..8 => self.append(base),
            8 => {
                if let Some(name) = self.any_name() {
                    self.append(&name);
                }
            }
            9 | 10 if is_there => self.truncate(base),
            11 if is_there => self.rename(base),
            12 | 13 if is_there => self.copy_and_truncate(base),
            14 => {
                // Files that are gone are told of once they were missing twice, and their inodes are not given out before.
                if let Some(name) = self.any_name() {
                    self.pass().await;
                    self.remove(&name);
                    self.pass().await;
                    self.pass().await;
                }
            }
            15 => {
                self.pass().await;
                self.restart();
            }
            _ => self.pass().await,
        }
    }

    fn check(&self, seed: u64) {
        let told = || format!("seed {seed}:\n{}", self.done.join("\n"));
        let mut numbers = self.house.numbers();
        numbers.sort_unstable();
        let expected: Vec<_> = self.model.expected.iter().copied().collect();
        assert_eq!(numbers, expected, "{}", told());
        let gaps: u64 = self.house.gaps().iter().map(|(_, _, bytes, _)| bytes).sum();
        assert_eq!(gaps, self.model.gap_bytes, "{}\n{:?}", told(), self.house.gaps());
        assert_eq!(self.house.folder.status().taken.gap_bytes, gaps, "{}", told());
        assert_eq!(self.house.letters("a.jsonl").len() + self.house.letters("b.jsonl").len(), 0, "{}", told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_writers_and_rotators_do() {
    const PLAYS: usize = 60;
    for _ in 0..PLAYS {
        play(fastrand::u64(..)).await;
    }
}

async fn play(seed: u64) {
    let settings = Settings { forget_after: std::time::Duration::ZERO, ..Settings::default() };
    let random = fastrand::Rng::with_seed(seed);
    let mut play = Play { house: House::with(settings), model: Model::default(), random, done: Vec::new() };
    for _ in 0..60 {
        play.step().await;
    }
    play.pass().await;
    play.check(seed);
}
