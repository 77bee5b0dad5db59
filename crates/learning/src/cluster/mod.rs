//! Which questions are about one thing, by their vectors alone.
//!
//! [`clusters`] looks at all of them at once. It does not know what a point is, and keeps nothing on disk.
//!
//! How: each point is compared with each other once, its nearest neighbours are kept ([`neighbours`]), and groups of
//! neighbours are joined by average linkage for as long as they are alike enough ([`linkage`]). Density (HDBSCAN* on the
//! same graph) and leaders were tried on the same questions and found fewer problems; see [`Settings`].
//!
//! The same points under the same keys give the same clusters, in whatever order they come, and on every machine.

mod kernel;
mod linkage;
mod neighbours;
mod rows;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, error::Error, fmt};

use neighbours::Neighbours;
use rows::Rows;

/// Points that are clustered at a time: what is compared grows with their square.
///
/// 5 000 take half a second of one core and 20 000 some ten seconds, at 384 dimensions. Memory grows with the points:
/// twice their vectors, and 32 bytes for each of their neighbours.
pub const POINTS_MAX: usize = 20_000;

/// Something with a direction.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What it is called for ever. Keys differ, and decide where similarities do not.
    pub key: u128,
    /// Where it points; its length does not matter. All points have as many numbers.
    pub vector: &'a [f32],
}

/// When groups are alike enough to be one.
///
/// The defaults are for all-MiniLM-L6-v2, chosen on 1 440 questions about 40 problems among 616 of other subjects. What a
/// pair of groups needs is an average similarity of all pairs between them that is high in itself, more so for few
/// members; that is not much lower than to their nearest neighbours; and that is not much lower than within them. The
/// second and third tell apart problems that share most of their words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Members that a cluster has at least; what has fewer is noise.
    pub members_min: usize,
    /// Neighbours of a point that are kept: at least 2, at most 64.
    pub neighbours: usize,
    /// The average similarity that groups need.
    pub similarity_min: f32,
    /// What two single points need beyond that; it falls to nothing at [`Settings::small_members`].
    pub small_extra: f32,
    /// Members of both groups together from which nothing more is needed.
    pub small_members: usize,
    /// How much lower the average similarity may be than that of members to their eight nearest neighbours.
    pub surroundings_gap: f32,
    /// Of the average similarity within the looser of the two groups, the share that is needed between them.
    pub own_share: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            members_min: 5,
            neighbours: 16,
            similarity_min: 0.40,
            small_extra: 0.12,
            small_members: 12,
            surroundings_gap: 0.26,
            own_share: 0.6,
        }
    }
}

/// Points that are about one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Which of the points that were given, by their keys.
    pub members: Vec<usize>,
    /// The one that is most like all others.
    pub medoid: usize,
    /// The mean cosine of the members and their centroid: 1 where all are the same.
    pub cohesion: f32,
}

/// More points than are clustered at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many there were.
    pub count: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} points are too many to cluster at a time; at most {POINTS_MAX} are", self.count)
    }
}

impl Error for TooMany {}

/// The clusters among points, the largest first; of equally large ones, the one with the lowest key.
///
/// What belongs to none is left out, and so is what has no direction (zeros, infinities) or another number of dimensions
/// than the point with the lowest key.
///
/// # Errors
/// [`TooMany`], for more than [`POINTS_MAX`].
pub fn clusters(points: &[Point<'_>], settings: &Settings) -> Result<Vec<Cluster>, TooMany> {
    if points.len() > POINTS_MAX {
        return Err(TooMany { count: points.len() });
    }
    let rows = Rows::new(points);
    let neighbours = Neighbours::new(&rows, settings.neighbours);
    let groups = linkage::groups(&rows, &neighbours, settings);
    let mut clusters: Vec<Cluster> = groups
        .into_iter()
        .filter_map(|group| cluster(&rows, &group))
        .filter(|cluster| cluster.members.len() >= settings.members_min.max(1))
        .collect();
    for cluster in &mut clusters {
        cluster.members.sort_by_key(|member| (points[*member].key, *member));
    }
    let lowest = |cluster: &Cluster| cluster.members.first().map(|member| points[*member].key);
    clusters.sort_by_key(|cluster| (Reverse(cluster.members.len()), lowest(cluster)));
    Ok(clusters)
}

/// The points of some rows.
fn cluster(rows: &Rows, group: &[u32]) -> Option<Cluster> {
    let mut group = group.to_vec();
    group.sort_unstable();
    let sum = rows.sum(&group);
    let members: Vec<usize> = group.iter().flat_map(|row| &rows.points[*row as usize]).copied().collect();
    let mut best: Option<(f32, u32)> = None;
    for row in &group {
        let similarity = kernel::product(&sum, rows.row(*row as usize));
        if best.is_none_or(|(most, _)| similarity > most) {
            best = Some((similarity, *row));
        }
    }
    let medoid = *rows.points[best?.1 as usize].first()?;
    let cohesion = (kernel::product(&sum, &sum).sqrt() / members.len() as f32).min(1.0);
    Some(Cluster { members, medoid, cohesion })
}
