//! A real WebSocket library over the stream, and a client that writes every byte of its frames by hand: with the examples of RFC 7692, with
//! random messages in random pieces, and with what no honest client sends.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::frames::Frames;
use super::{Agreement, Broken, Deflating, Inflating, Side, TAIL};

const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;

/// The frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A payload as RFC 7692 section 7.2.1 makes it.
fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(6), false);
    let mut deflated = Vec::with_capacity(plain.len() + plain.len() / 8 + 64);
    compress.compress_vec(plain, &mut deflated, FlushCompress::Sync).unwrap();
    assert!(deflated.ends_with(&TAIL) && compress.total_in() == plain.len() as u64);
    deflated.truncate(deflated.len() - TAIL.len());
    deflated
}

/// The service's end of a connection, and the client's.
async fn connection() -> (WebSocketStream<Inflating<DuplexStream>>, DuplexStream) {
    let (client, below) = duplex(1024);
    let mut stream = Inflating::new(below);
    stream.begin(Side::Server, MESSAGE_BYTES_MAX);
    let config =
        WebSocketConfig::default().read_buffer_size(2048).max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    (WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await, client)
}

/// The messages that the library reads of these bytes, up to the end or the first error.
async fn read(bytes: Vec<u8>) -> Vec<Result<Message, Error>> {
    let (mut socket, mut client) = connection().await;
    let writes = tokio::spawn(async move {
        // The library stops to read when it finds an error.
        let _ = client.write_all(&bytes).await;
    });
    let mut heard = Vec::new();
    while let Some(next) = socket.next().await {
        heard.push(next);
    }
    drop(socket);
    writes.await.unwrap();
    heard
}

async fn texts(bytes: Vec<u8>) -> Vec<String> {
    let heard = read(bytes).await;
    let text = |message: &Result<Message, Error>| if let Ok(Message::Text(text)) = message { Some(text.to_string()) } else { None };
    heard.iter().filter_map(text).collect()
}

/// The error that reading these bytes ends with.
async fn error(bytes: Vec<u8>) -> Error {
    read(bytes).await.pop().unwrap().unwrap_err()
}

fn broken(error: &Error) -> Option<Broken> {
    let Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref().copied()
}

#[tokio::test]
async fn examples_of_the_rfc_are_read() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for payload in [&hello[..], &stored, &last_block, &two_blocks] {
        assert_eq!(texts(frame(FIN | RSV1 | TEXT, payload)).await, ["Hello"], "{payload:x?}");
    }
    let in_fragments = [frame(RSV1 | TEXT, &hello[..3]), frame(FIN | CONTINUATION, &hello[3..])].concat();
    assert_eq!(texts(in_fragments).await, ["Hello"]);
    let two_streams = [&last_block[..7], &last_block].concat();
    assert_eq!(texts(frame(FIN | RSV1 | TEXT, &two_streams)).await, ["HelloHello"]);
    assert_eq!(texts(frame(FIN | RSV1 | TEXT, &[0x00])).await, [""], "an empty message");
}

/// A message of a length that fits no buffer, of words.
fn random_text(random: &mut fastrand::Rng) -> String {
    let length = match random.u8(0..4) {
        0 => random.usize(0..20),
        1 => random.usize(0..5_000),
        2 => 4096 * random.usize(1..4),
        _ => random.usize(0..100_000),
    };
    let mut text = String::new();
    while text.len() < length {
        text.push_str(random.choice(["hello ", "world ", "ü", "𝄞", "0123456789"]).unwrap());
        text.push(random.alphanumeric());
    }
    text
}

/// The frames of a message: in pieces of random lengths, pings between them.
fn random_frames(random: &mut fastrand::Rng, text: &str) -> Vec<u8> {
    let (payload, rsv1) = if random.bool() { (deflated(text.as_bytes()), RSV1) } else { (text.as_bytes().to_vec(), 0) };
    let mut frames = Vec::new();
    let mut rest = &payload[..];
    let mut first = TEXT | rsv1;
    loop {
        let piece = if random.bool() { rest.len() } else { random.usize(0..=rest.len()) };
        let fin = if piece == rest.len() { FIN } else { 0 };
        frames.extend(frame(first | fin, &rest[..piece]));
        if fin != 0 {
            return frames;
        }
        if random.bool() {
            frames.extend(frame(FIN | 9, b"ping"));
        }
        (rest, first) = (&rest[piece..], CONTINUATION);
    }
}

#[tokio::test]
async fn random_messages_in_random_pieces_are_read_as_they_were_said() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let said: Vec<String> = (0..100).map(|_| random_text(&mut random)).collect();
    let (mut socket, mut client) = connection().await;
    let frames: Vec<u8> = said.iter().flat_map(|text| random_frames(&mut random, text)).collect();
    let writes = tokio::spawn(async move {
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let bytes = random.usize(1..5_000).min(rest.len());
            client.write_all(&rest[..bytes]).await.unwrap();
            rest = &rest[bytes..];
        }
        // Pongs are not read, and there is room for them.
        client
    });
    for (n, said) in said.iter().enumerate() {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Ping(_) => {}
                heard => break assert!(heard == Message::text(said.as_str()), "message {n} of seed {seed}"),
            }
        }
    }
    drop(writes.await.unwrap());
}

#[tokio::test]
async fn a_small_message_is_one_frame_for_the_library() {
    let mut frames = Frames::new(Side::Server, MESSAGE_BYTES_MAX as u64);
    frames.read(&frame(FIN | RSV1 | TEXT, &deflated(b"hello, hello, hello")));
    frames.work();
    assert_eq!(frames.output[..2], [FIN | TEXT, 0x80 | 19]);
    assert_eq!(frames.output[2 + 4..], b"hello, hello, hello"[..]);
}

#[tokio::test]
async fn a_bomb_ends_at_the_limit_of_the_library() {
    let bomb = deflated(&vec![b'0'; 8 << 20]);
    assert!(bomb.len() < 10_000);
    let error = error(frame(FIN | RSV1 | TEXT, &bomb)).await;
    assert!(matches!(error, Error::Capacity(CapacityError::MessageTooLong { size, .. }) if size <= MESSAGE_BYTES_MAX + 4096), "{error:?}");
}

/// However much a few bytes stand for: no more of it is in memory than the library takes.
#[test]
fn nothing_is_inflated_before_there_is_room() {
    let mut frames = Frames::new(Side::Server, MESSAGE_BYTES_MAX as u64);
    frames.read(&frame(FIN | RSV1 | TEXT, &deflated(&vec![b'0'; 8 << 20])));
    let mut inflated = 0;
    while !{
        frames.work();
        frames.output.is_empty()
    } {
        assert!(frames.output.len() < 16 * 1024, "{}", frames.output.len());
        inflated += frames.output.len();
        frames.output.clear();
    }
    assert!(inflated > 8 << 20);
    assert_eq!(frames.broken(), None);
}

#[tokio::test]
async fn compressed_bytes_without_end_are_refused_too() {
    // Blocks without content: they inflate to nothing, so no limit of the library is met.
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(10_000);
    let mut frames = frame(RSV1 | TEXT, &nothing);
    for _ in 0..10 {
        frames.extend(frame(CONTINUATION, &nothing));
    }
    assert_eq!(broken(&error(frames).await), Some(Broken::TooLarge));
    assert_eq!(
        broken(&error([FIN | RSV1 | TEXT, 0x80 | 127, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0].to_vec()).await),
        Some(Broken::TooLarge)
    );
}

#[tokio::test]
async fn what_is_not_deflate_breaks_the_connection() {
    assert_eq!(broken(&error(frame(FIN | RSV1 | TEXT, &[0xff; 20])).await), Some(Broken::NotDeflate));
    // A block with three bytes, of which two are there, so that the end of the message is none of the block.
    assert_eq!(broken(&error(frame(FIN | RSV1 | TEXT, &[0, 1, 0, 0, 0])).await), Some(Broken::NotDeflate));
    let utf16 = error(frame(FIN | RSV1 | TEXT, &deflated(&[0xff, 0xfe]))).await;
    assert!(matches!(utf16, Error::Utf8(_)), "{utf16:?}");
}

#[tokio::test]
async fn rules_of_frames_are_kept_by_the_library_as_before() {
    let hello = deflated(b"hello");
    let refused = |error: &Error, rule: ProtocolError| matches!(error, Error::Protocol(found) if *found == rule);
    for (what, bytes) in [
        ("a compressed continuation", [frame(RSV1 | TEXT, &hello[..2]), frame(FIN | RSV1 | CONTINUATION, &hello[2..])].concat()),
        ("a compressed ping", frame(FIN | RSV1 | 9, b"ping")),
        ("another extension", frame(FIN | RSV1 | 0x20 | TEXT, &hello)),
        ("another extension in a continuation", [frame(RSV1 | TEXT, &hello[..2]), frame(FIN | 0x10, &hello[2..])].concat()),
    ] {
        let error = error(bytes).await;
        assert!(refused(&error, ProtocolError::NonZeroReservedBits), "{what}: {error:?}");
    }
    let unknown = error(frame(FIN | RSV1 | 3, &hello)).await;
    assert!(refused(&unknown, ProtocolError::InvalidOpcode(3)), "{unknown:?}");
    let fragment_missing = error(frame(FIN | CONTINUATION, &hello)).await;
    assert!(refused(&fragment_missing, ProtocolError::UnexpectedContinueFrame), "{fragment_missing:?}");
    let within_plain = error([frame(TEXT, b"he"), frame(FIN | RSV1 | TEXT, &hello)].concat()).await;
    assert!(matches!(within_plain, Error::Protocol(ProtocolError::ExpectedFragment(_))), "{within_plain:?}");
    let unmasked = error([&[FIN | RSV1 | TEXT, hello.len() as u8][..], &hello].concat()).await;
    assert!(refused(&unmasked, ProtocolError::UnmaskedFrameFromClient), "{unmasked:?}");
    for begins in [FIN | TEXT, FIN | RSV1 | TEXT, FIN | 2] {
        let within_compressed = error([frame(RSV1 | TEXT, &hello[..2]), frame(begins, &hello)].concat()).await;
        assert_eq!(broken(&within_compressed), Some(Broken::OutOfOrder), "{begins:x}");
    }
}

#[tokio::test]
async fn without_an_agreement_a_compressed_frame_is_none() {
    let (mut client, below) = duplex(1024);
    let mut socket = WebSocketStream::from_raw_socket(Inflating::new(below), Role::Server, None).await;
    client.write_all(&frame(FIN | RSV1 | TEXT, &deflated(b"hello"))).await.unwrap();
    let error = socket.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::NonZeroReservedBits)), "{error:?}");
}

fn compressed(plain: &[u8], offer: &str) -> Result<Bytes, Bytes> {
    let mut deflating = Deflating::new(Bytes::copy_from_slice(plain), Agreement::of([offer]).unwrap());
    while !deflating.step() {}
    deflating.finish()
}

/// The text that a client makes of it.
fn inflated(payload: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(1 << 20);
    Decompress::new(false).decompress_vec(&[payload, &TAIL].concat(), &mut plain, FlushDecompress::Sync).ok()?;
    Some(plain)
}

#[test]
fn messages_of_every_size_are_compressed_so_that_a_client_reads_them() {
    let mut random = fastrand::Rng::with_seed(7);
    let text: String = (0..60_000).filter_map(|_| random.choice(["the ", "quick ", "brown ", "fox "])).collect();
    for length in [1024, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 200_000] {
        let plain = &text.as_bytes()[..length];
        let payload = compressed(plain, "permessage-deflate").unwrap();
        assert!(payload.len() * 3 < length && !payload.ends_with(&TAIL), "{length}: {}", payload.len());
        assert!(inflated(&payload).as_deref() == Some(plain), "{length}");
    }
}

#[test]
fn a_window_that_was_agreed_on_is_kept() {
    let mut random = fastrand::Rng::with_seed(7);
    let unlike: String = (0..2_000).map(|_| random.alphanumeric()).collect();
    let plain = unlike.repeat(4);
    let small = compressed(plain.as_bytes(), "permessage-deflate; server_max_window_bits=9").unwrap();
    assert!(inflated(&small).as_deref() == Some(plain.as_bytes()));
    // The text repeats itself after more than 512 bytes, so a small window finds no repetition.
    let large = compressed(plain.as_bytes(), "permessage-deflate").unwrap();
    assert!(small.len() * 10 > plain.len() * 7 && large.len() * 10 < plain.len() * 3, "{} {} {}", small.len(), large.len(), plain.len());
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
    assert_eq!(compressed(&noise, "permessage-deflate").unwrap_err(), noise);
}
