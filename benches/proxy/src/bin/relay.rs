//! The floor: a bare TCP relay, two directions of `copy` per connection and nothing else.
//!
//! `relay LISTEN TARGET [LISTEN TARGET]…`

use std::io;

use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    for pair in words.chunks(2) {
        let [listen, target] = pair else { return Err(io::ErrorKind::InvalidInput.into()) };
        let listener = TcpListener::bind(listen).await?;
        tokio::spawn(serve(listener, target.clone()));
    }
    println!("ready");
    std::future::pending().await
}

async fn serve(listener: TcpListener, target: String) {
    while let Ok((mut client, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            let mut upstream = TcpStream::connect(target).await?;
            client.set_nodelay(true)?;
            upstream.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
        });
    }
}
