//! Finds modules of one kernel and puts them, with what they depend on, into load order.
//! Never walks the module tree: `modules.order` lists it, `modules.builtin` says what needs no loading.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::cache::read_bounded;
use crate::error::{Error, Result};
use crate::{decompress, limits, modinfo};

/// The modules of one kernel, as files of a folder such as `/lib/modules/6.12.117+deb12-cloud-amd64`.
#[derive(Debug)]
pub struct ModuleFolder {
    root: PathBuf,
    release: String,
    paths: HashMap<String, String>,
    builtin: HashSet<String>,
}

/// A module ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name as the kernel writes it, with underscores.
    pub name: String,
    /// The uncompressed `.ko`.
    pub bytes: Vec<u8>,
}

impl ModuleFolder {
    /// Reads the two index files of `root`.
    pub fn open(root: &Path, release: &str) -> Result<Self> {
        let index = |name: &str| -> Result<String> {
            let path = root.join(name);
            let bytes = read_bounded(&path, limits::MODULE_INDEX_BYTES_MAX)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let builtin = index("modules.builtin")?.lines().filter_map(module_name).collect();
        let paths = index("modules.order")?
            .lines()
            .filter(|line| line.split('/').all(|part| !matches!(part, "" | "." | "..")))
            .filter_map(|line| Some((module_name(line)?, line.to_owned())))
            .collect();
        Ok(ModuleFolder { root: root.to_path_buf(), release: release.to_owned(), paths, builtin })
    }

    /// The wanted modules and their dependencies, dependencies first; what is built in is left out.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut order = Order { folder: self, done: HashSet::new(), modules: Vec::new() };
        for name in wanted {
            order.add(&name.replace('-', "_"))?;
        }
        Ok(order.modules)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let missing = || Error::ModuleMissing {
            name: name.to_owned(),
            release: self.release.clone(),
            folder: self.root.clone(),
        };
        let plain = self.root.join(self.paths.get(name).ok_or_else(missing)?);
        for suffix in ["", ".xz", ".zst", ".gz"] {
            let mut path = plain.clone().into_os_string();
            path.push(suffix);
            let path = PathBuf::from(path);
            if !path.exists() {
                continue;
            }
            let bytes = read_bounded(&path, limits::MODULE_BYTES_MAX as u64)?;
            let Some(format) = decompress::sniff(&bytes) else { return Ok(bytes) };
            return decompress::decompress(format, &bytes, limits::MODULE_BYTES_MAX).ok_or(
                Error::BadModule { name: name.to_owned(), path, reason: "its compressed data is damaged" },
            );
        }
        Err(missing())
    }
}

/// Depth-first walk over dependencies. Depth is bounded by [`limits::MODULES_MAX`]: each level is a new module.
struct Order<'a> {
    folder: &'a ModuleFolder,
    done: HashSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.folder.builtin.contains(name) || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let bad = |reason| Error::BadModule { name: name.to_owned(), path: self.folder.root.clone(), reason };
        if self.done.len() > limits::MODULES_MAX {
            return Err(bad("it brings in more than 100 modules"));
        }
        let bytes = self.folder.read(name)?;
        let depends = modinfo::depends(&bytes).ok_or_else(|| bad("it has no readable .modinfo section"))?;
        for dependency in depends {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// `kernel/drivers/char/hw_random/virtio-rng.ko` → `virtio_rng`.
fn module_name(line: &str) -> Option<String> {
    let file = line.rsplit('/').next()?;
    let stem = file.strip_suffix(".ko")?;
    modinfo::name(stem.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modinfo::tests::module;
    use std::fs;

    fn folder(modules: &[(&str, &str)], builtin: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kernel")).unwrap();
        let mut order = String::new();
        for (name, depends) in modules {
            order.push_str(&format!("kernel/{name}.ko\n"));
            let bytes = module(format!("license=GPL\0depends={depends}\0").as_bytes());
            fs::write(dir.path().join(format!("kernel/{name}.ko")), bytes).unwrap();
        }
        fs::write(dir.path().join("modules.order"), order).unwrap();
        fs::write(dir.path().join("modules.builtin"), builtin).unwrap();
        dir
    }

    fn names(dir: &Path, wanted: &[&str]) -> Result<Vec<String>> {
        let modules = ModuleFolder::open(dir, "1.2.3")?.load_order(wanted)?;
        Ok(modules.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let dir = folder(
            &[("top", "mid-b,mid_a,inside"), ("mid_a", "low"), ("mid-b", "low"), ("low", "")],
            "kernel/fs/inside.ko\n",
        );
        assert_eq!(names(dir.path(), &["top", "mid_a"]).unwrap(), ["low", "mid_b", "mid_a", "top"]);
        assert_eq!(names(dir.path(), &["inside"]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_cycle_ends_and_a_missing_module_is_named() {
        let dir = folder(&[("a", "b"), ("b", "a"), ("c", "gone")], "");
        assert_eq!(names(dir.path(), &["a"]).unwrap(), ["b", "a"]);
        let text = names(dir.path(), &["c"]).unwrap_err().to_string();
        assert!(text.contains("gone") && text.contains("1.2.3") && text.contains("--kernel"), "{text}");
    }

    #[test]
    fn a_long_chain_is_refused_not_followed() {
        let chain: Vec<_> = (0..200).map(|i| (format!("m{i}"), format!("m{}", i + 1))).collect();
        let chain: Vec<_> = chain.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let dir = folder(&chain, "");
        assert!(matches!(names(dir.path(), &["m0"]), Err(Error::BadModule { .. })));
    }

    #[test]
    fn an_index_cannot_point_outside_its_folder() {
        let dir = folder(&[], "");
        fs::write(dir.path().join("modules.order"), "../../etc/evil.ko\n/etc/evil.ko\n").unwrap();
        assert!(matches!(names(dir.path(), &["evil"]), Err(Error::ModuleMissing { .. })));
    }
}
