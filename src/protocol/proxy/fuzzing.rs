//! The body of the fuzz target for PROXY headers. It passes any bytes in pieces, and panics if the result differs from
//! that of the whole, or if more is buffered than the longest header.

use super::{HEADER_MAXIMUM, Header, LINE_START, Malformed, Reader, SIGNATURE};
use crate::base::fuzzing::Input;
use crate::protocol::proxy::Proxy;

type Outcome = Result<Option<(Header, usize)>, Malformed>;

/// The first bytes select the form, whether the header has a valid start, and where the rest is cut.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let v2 = |requires_tls, requires_certificate| Proxy::V2 { requires_tls, requires_certificate };
    let proxy = input.pick(&[Proxy::V1, v2(false, false), v2(true, false), v2(true, true)]);
    let has_start = !input.once_in(8);
    let cuts: Vec<usize> = (0..input.below(8)).map(|_| 1 + input.below(64)).collect();
    let start = match proxy {
        Proxy::V1 => LINE_START,
        Proxy::V2 { .. } => SIGNATURE,
    };
    let stream = [if has_start { start } else { &[] }, input.bytes(usize::MAX)].concat();
    let whole = read(proxy, &stream, &[]);
    if let (Ok(Some((header, _))), Proxy::V2 { requires_certificate, .. }) = (&whole, proxy) {
        let is_named = header.common_name.is_some() || header.certificate.is_some();
        assert!(
            header.has_certificate || !is_named && (!requires_certificate || header.is_local),
            "{header:?}"
        );
    }
    assert_eq!(read(proxy, &stream, &cuts), whole, "{stream:02x?} cut by {cuts:?}");
}

fn read(proxy: Proxy, mut stream: &[u8], cuts: &[usize]) -> Outcome {
    let mut reader = Reader::new(proxy);
    let mut before = 0;
    for &cut in cuts.iter().chain([&usize::MAX]) {
        let (piece, rest) = stream.split_at(stream.len().min(cut));
        let outcome = reader.receive(piece)?;
        assert!(reader.held.len() <= HEADER_MAXIMUM, "the buffer is limited");
        if let Some((header, taken)) = outcome {
            return Ok(Some((header, before + taken)));
        }
        before += piece.len();
        stream = rest;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_give_the_same_result_as_the_whole() {
        crate::base::fuzzing::try_out("proxy", 2_000, super::check);
    }
}
