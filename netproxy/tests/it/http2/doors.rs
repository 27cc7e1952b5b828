//! HTTP/2 through every door.

use super::client::{get, over};
use super::{H2, HTTP1, world};
use crate::client::tls_offering;
use crate::doors::WAYS;

#[tokio::test]
async fn http2_is_judged_stream_by_stream_through_every_door() {
    let world = world(&[H2, HTTP1]).await;
    let target = world.at("ok.example");
    for way in WAYS {
        let stream = way.open(&world, &target).await;
        let offer: (&str, &[&[u8]]) = ("ok.example", &[H2]);
        let tls = tls_offering(world.proxy.ca_certificate_pem(), stream, offer).await.unwrap();
        let mut client = over(tls).await;
        for (path, status) in [("/a", 200), ("/private", 403), ("/b", 200)] {
            assert_eq!(get(&mut client, &target, path).await.status, status, "{way:?} {path}");
        }
    }
}
