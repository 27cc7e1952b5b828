//! Which node number of the guest is which host file, and how to get hold of that file again.
//!
//! A node remembers its share, its parent, its name and the identity of the file. Descriptors are kept
//! for recently used directories only; a file that is needed is opened by its name beneath its parent and
//! compared with the remembered identity. So the number of descriptors is bounded however many inodes a
//! guest holds, and a file that was replaced on the host is noticed (`ESTALE`, upon which the guest's
//! kernel looks the name up again).
//!
//! It must never: follow a symbolic link, leave a share, or use a node number twice.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use super::directory_cache::DirectoryCache;
use super::identity::{Identity, Version, is_pseudo_filesystem};
use super::limits::{DEPTH_MAX, NODES_MAX};
use super::tree::{Spot, Tree};
use crate::host_path::{self, DIRECTORY};

/// A node's place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The root of its share; known for ever.
    Root,
    Under {
        parent: u64,
        name: Box<CStr>,
    },
}

/// A host file that the guest knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) share: usize,
    pub(super) identity: Identity,
    /// Content at the time of the last open, to tell the guest whether its cached pages are still good.
    pub(super) opened: Option<Version>,
    place: Place,
    /// Times the guest was told this node's number, less those it has forgotten.
    lookups: u64,
    /// Nodes whose place is under this one. A parent lives as long as its children.
    children: usize,
}

impl Known {
    fn is_idle(&self) -> bool {
        self.lookups == 0 && self.children == 0 && self.place != Place::Root
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) tree: Tree,
    known: HashMap<u64, Known>,
    numbers: HashMap<(usize, Identity), u64>,
    directories: DirectoryCache,
    next: u64,
}

/// What a node number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A made-up directory of the tree.
    Folder(usize),
    /// A host file in this share.
    Host(usize),
}

impl Nodes {
    /// Numbers folders first, then shares; the root of the tree gets number 1 either way.
    pub(super) fn new(tree: Tree, directory_fds: usize) -> Self {
        let mut nodes = Self {
            tree,
            known: HashMap::new(),
            numbers: HashMap::new(),
            directories: DirectoryCache::new(directory_fds),
            next: 1,
        };
        nodes.clear();
        nodes
    }

    /// Forgets everything but the roots.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.numbers.clear();
        self.directories.clear();
        for (share, root) in self.tree.shares.iter().enumerate() {
            let (identity, place) = (root.identity, Place::Root);
            let known = Known { share, identity, opened: None, place, lookups: 0, children: 0 };
            self.known.insert(Self::number(&self.tree, Spot::Share(share)), known);
        }
        let statics = self.tree.folders.len().saturating_add(self.tree.shares.len());
        self.next = self.next.max(as_number(statics).saturating_add(1));
    }

    /// The number of a made-up directory or of a share's root.
    pub(super) fn number_of(&self, spot: Spot) -> u64 {
        Self::number(&self.tree, spot)
    }

    fn number(tree: &Tree, spot: Spot) -> u64 {
        let index = match spot {
            Spot::Folder(index) => index,
            Spot::Share(index) => tree.folders.len().saturating_add(index),
        };
        as_number(index).saturating_add(1)
    }

    /// What `node` stands for; `ESTALE` when the guest made it up or has forgotten it.
    pub(super) fn kind(&self, node: u64) -> Result<Kind, Errno> {
        let folder = node.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        match folder.filter(|index| *index < self.tree.folders.len()) {
            Some(index) => Ok(Kind::Folder(index)),
            None => self.host(node).map(|known| Kind::Host(known.share)),
        }
    }

    /// The host file behind `node`.
    pub(super) fn host(&self, node: u64) -> Result<&Known, Errno> {
        self.known.get(&node).ok_or(Errno::STALE)
    }

    /// See [`Nodes::host`].
    pub(super) fn host_mut(&mut self, node: u64) -> Result<&mut Known, Errno> {
        self.known.get_mut(&node).ok_or(Errno::STALE)
    }

    /// Whether the share may only be read. Shares that do not exist are read-only.
    pub(super) fn is_read_only(&self, share: usize) -> bool {
        self.tree.shares.get(share).is_none_or(|root| root.read_only)
    }

    /// The share of `node`, which must allow changes.
    pub(super) fn writable(&self, node: u64) -> Result<usize, Errno> {
        match self.kind(node)? {
            Kind::Host(share) if !self.is_read_only(share) => Ok(share),
            _ => Err(Errno::ROFS),
        }
    }

    /// An `O_PATH` descriptor of the file behind `node`.
    pub(super) fn path_fd(&mut self, node: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut at = node;
        let mut fd = loop {
            if let Some(fd) = self.directories.get(at) {
                break fd;
            }
            let known = self.host(at)?;
            let Place::Under { parent, .. } = &known.place else {
                break self.tree.shares.get(known.share).ok_or(Errno::STALE)?.fd.clone();
            };
            missing.push(at);
            at = *parent;
            if missing.len() > DEPTH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
        };
        for node in missing.into_iter().rev() {
            let known = self.known.get(&node).ok_or(Errno::STALE)?;
            let Place::Under { name, .. } = &known.place else { return Err(Errno::STALE) };
            fd = Arc::new(host_path::child(&*fd, name).map_err(stale)?);
            if Identity::of(&host_path::stat(&*fd)?) != known.identity {
                return Err(Errno::STALE);
            }
            if known.identity.kind == DIRECTORY {
                self.directories.put(node, fd.clone());
            }
        }
        Ok(fd)
    }

    /// The present attributes of the file behind `node`.
    pub(super) fn stat(&mut self, node: u64) -> Result<Statx, Errno> {
        let known = self.host(node)?;
        let (identity, place) = (known.identity, known.place.clone());
        let stat = match place {
            Place::Under { parent, name } if identity.kind != DIRECTORY => {
                host_path::stat_child(&*self.path_fd(parent)?, &name).map_err(stale)?
            }
            _ => host_path::stat(&*self.path_fd(node)?)?,
        };
        if Identity::of(&stat) == identity { Ok(stat) } else { Err(Errno::STALE) }
    }

    /// Looks up `name` in the directory `parent`, and counts that the guest now knows it.
    pub(super) fn look_up(&mut self, parent: u64, name: &CStr) -> Result<(u64, Statx), Errno> {
        let directory = self.path_fd(parent)?;
        let stat = host_path::stat_child(&*directory, name)?;
        let identity = Identity::of(&stat);
        let above = self.host(parent)?;
        if identity.device != above.identity.device
            && is_pseudo_filesystem(host_path::child(&*directory, name)?)?
        {
            return Err(Errno::ACCESS);
        }
        let share = above.share;
        self.count(share, identity, parent, name).map(|node| (node, stat))
    }

    fn count(&mut self, share: usize, identity: Identity, parent: u64, name: &CStr) -> Result<u64, Errno> {
        let node = match self.numbers.get(&(share, identity)) {
            Some(node) => *node,
            None if self.known.len() >= NODES_MAX => return Err(Errno::NFILE),
            None => {
                let node = self.next;
                self.next = self.next.checked_add(1).ok_or(Errno::NFILE)?;
                let place = Place::Under { parent, name: name.into() };
                let known = Known { share, identity, opened: None, place, lookups: 0, children: 0 };
                self.known.insert(node, known);
                self.numbers.insert((share, identity), node);
                self.adopt(parent);
                node
            }
        };
        self.settle(node, parent, name);
        let known = self.host_mut(node)?;
        known.lookups = known.lookups.saturating_add(1);
        Ok(node)
    }

    /// The file with this identity is now found under this name: it was renamed, or has two names.
    pub(super) fn moved(&mut self, share: usize, identity: Identity, parent: u64, name: &CStr) {
        if let Some(node) = self.numbers.get(&(share, identity)).copied() {
            self.settle(node, parent, name);
        }
    }

    fn settle(&mut self, node: u64, parent: u64, name: &CStr) {
        let Some(known) = self.known.get_mut(&node) else { return };
        let Place::Under { parent: old_parent, name: old_name } = &known.place else { return };
        let before = *old_parent;
        if before == parent && **old_name == *name {
            return;
        }
        known.place = Place::Under { parent, name: name.into() };
        self.adopt(parent);
        self.abandon(before);
    }

    fn adopt(&mut self, parent: u64) {
        if let Some(known) = self.known.get_mut(&parent) {
            known.children = known.children.saturating_add(1);
        }
    }

    fn abandon(&mut self, parent: u64) {
        if let Some(known) = self.known.get_mut(&parent) {
            known.children = known.children.saturating_sub(1);
        }
        self.remove_idle(parent);
    }

    /// The guest forgets `node`, which it was told about `count` times.
    pub(super) fn forget(&mut self, node: u64, count: u64) {
        if let Some(known) = self.known.get_mut(&node) {
            known.lookups = known.lookups.saturating_sub(count);
            self.remove_idle(node);
        }
    }

    /// Removes `node` if nobody needs it, then its parent if that was the last child, and so on.
    fn remove_idle(&mut self, mut node: u64) {
        while self.known.get(&node).is_some_and(Known::is_idle) {
            let Some(known) = self.known.remove(&node) else { return };
            self.numbers.remove(&(known.share, known.identity));
            self.directories.remove(node);
            let Place::Under { parent, .. } = known.place else { return };
            if let Some(above) = self.known.get_mut(&parent) {
                above.children = above.children.saturating_sub(1);
            }
            node = parent;
        }
    }

    /// Number of host files known, roots included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets the directory descriptors, as if others had been used since.
    #[cfg(test)]
    pub(super) fn clear_directory_fds(&mut self) {
        self.directories.clear();
    }

    /// Number of directory descriptors held, roots not included.
    #[cfg(test)]
    pub(super) fn directory_fds(&self) -> usize {
        self.directories.len()
    }
}

/// A remembered name that is gone says nothing about the file, which may have another name: the guest's
/// kernel looks names up again after `ESTALE`, while it would believe `ENOENT`.
fn stale(errno: Errno) -> Errno {
    if matches!(errno, Errno::NOENT | Errno::NOTDIR) { Errno::STALE } else { errno }
}

fn as_number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}
