//! Shares host directories with a guest of another VMM, over vhost-user.
//!
//! ```text
//! share /tmp/fs.sock usr=/usr:ro work=/home/me/project
//! qemu-system-x86_64 … -object memory-backend-memfd,id=m,size=1G,share=on -numa node,memdev=m \
//!   -chardev socket,id=c,path=/tmp/fs.sock -device vhost-user-fs-pci,chardev=c,tag=sandbox,queue-size=1024
//! guest# mount -t virtiofs sandbox /mnt
//! ```

use std::error::Error;
use std::os::unix::net::UnixListener;

use vmm_core::devices::fs::{self, FsConfig, Share};
use vmm_core::vhost_user;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().ok_or("usage: share SOCKET PLACE=SOURCE[:ro] …")?;
    let shares = arguments.map(|text| parse(&text).ok_or(text)).collect::<Result<_, _>>()?;
    let device = fs::new(FsConfig { shares })?;
    let server = vhost_user::serve(Box::new(device), UnixListener::bind(socket)?)?;
    server.join()?;
    Ok(())
}

fn parse(text: &str) -> Option<Share> {
    let (at, source) = text.split_once('=')?;
    let (source, read_only) = match source.strip_suffix(":ro") {
        Some(source) => (source, true),
        None => (source, false),
    };
    Some(Share { at: at.into(), source: source.into(), read_only })
}
