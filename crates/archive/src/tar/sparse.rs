//! Maps of sparse files: which parts of a file the archive holds. No I/O.
//!
//! GNU tar has four forms: the old GNU header type `S`, and PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse
//! Files"). All end up as a [`SparseMap`].

use super::number;

/// As many parts as a map may have: 16 MiB of memory.
pub(crate) const MAX_SEGMENTS: usize = 1 << 20;

/// A part of a file that is in the archive; what lies between the parts is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The parts of a sparse file, in order and without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    segments: Vec<Segment>,
    data_bytes: u64,
}

/// What is wrong with a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SparseError {
    #[error("the map of a sparse file has something that is not a number")]
    Number,
    #[error("the map of a sparse file has an odd count of numbers")]
    Odd,
    #[error("the map of a sparse file has more than {MAX_SEGMENTS} parts")]
    TooMany,
    #[error("the parts of a sparse file overlap, are out of order or exceed its size")]
    Order,
}

impl SparseMap {
    /// Checks the parts of a file of `size` bytes. Parts without data are left out.
    pub(crate) fn new(mut segments: Vec<Segment>, size: u64) -> Result<Self, SparseError> {
        let mut end = 0;
        let mut data_bytes = 0;
        for segment in &segments {
            let segment_end = segment.offset.checked_add(segment.bytes).ok_or(SparseError::Order)?;
            if segment.offset < end || segment_end > size {
                return Err(SparseError::Order);
            }
            end = segment_end;
            data_bytes += segment.bytes;
        }
        segments.retain(|segment| segment.bytes > 0);
        Ok(Self { segments, data_bytes })
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many bytes the archive holds.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
}

/// Collects numbers, which come in pairs of offset and length.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    segments: Vec<Segment>,
    offset: Option<u64>,
}

impl Pairs {
    pub(crate) fn push(&mut self, number: u64) -> Result<(), SparseError> {
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => self.push_segment(Segment { offset, bytes: number })?,
        }
        Ok(())
    }

    pub(crate) fn push_segment(&mut self, segment: Segment) -> Result<(), SparseError> {
        if self.segments.len() == MAX_SEGMENTS {
            return Err(SparseError::TooMany);
        }
        self.segments.push(segment);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn finish(self) -> Result<Vec<Segment>, SparseError> {
        if self.offset.is_some() { Err(SparseError::Odd) } else { Ok(self.segments) }
    }
}

/// PAX format 0.1: offsets and lengths in one record, with commas between all.
pub(crate) fn parse_list(text: &[u8]) -> Result<Vec<Segment>, SparseError> {
    let mut pairs = Pairs::default();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    for number in text.split(|byte| *byte == b',') {
        pairs.push(number::decimal(number).ok_or(SparseError::Number)?)?;
    }
    pairs.finish()
}

/// The map of PAX format 1.0, which stands before the data: a count, then offset and length of each part, each number
/// on a line of its own, padded to whole blocks. Takes one block after the other.
#[derive(Debug, Default)]
pub(crate) struct BlockMap {
    line: Vec<u8>,
    count: Option<usize>,
    pairs: Pairs,
}

impl BlockMap {
    /// Reads one block; true when the map is complete and data begins with the next block.
    pub(crate) fn push_block(&mut self, block: &[u8]) -> Result<bool, SparseError> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let number = number::decimal(&self.line).ok_or(SparseError::Number)?;
            self.line.clear();
            match self.count {
                None if number > MAX_SEGMENTS as u64 => return Err(SparseError::TooMany),
                None => self.count = usize::try_from(number).ok(),
                Some(_) => self.pairs.push(number)?,
            }
            if self.count == Some(self.pairs.len()) {
                return Ok(true);
            }
        }
        // A number has at most 20 digits; what is longer is no map.
        if self.line.len() > 20 { Err(SparseError::Number) } else { Ok(false) }
    }

    pub(crate) fn finish(self) -> Result<Vec<Segment>, SparseError> {
        self.pairs.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs.iter().map(|&(offset, bytes)| Segment { offset, bytes }).collect()
    }

    #[test]
    fn maps_are_ordered_and_within_the_file() {
        for (pairs, size, expected) in [
            (&[][..], 0, Some(0)),
            (&[(0, 5), (5, 5)], 10, Some(10)),
            (&[(4, 2), (10, 0)], 10, Some(2)),
            (&[(0, 0), (0, 3)], 10, Some(3)),
            (&[(0, 5), (4, 1)], 10, None),
            (&[(5, 1), (0, 1)], 10, None),
            (&[(0, 11)], 10, None),
            (&[(u64::MAX, 1)], u64::MAX, None),
        ] {
            let map = SparseMap::new(segments(pairs), size);
            assert_eq!(map.as_ref().ok().map(SparseMap::data_bytes), expected, "{pairs:?}");
            if let Ok(map) = map {
                assert!(map.segments().iter().all(|segment| segment.bytes > 0));
            }
        }
    }

    #[test]
    fn lists_are_pairs() {
        assert_eq!(parse_list(b""), Ok(vec![]));
        assert_eq!(parse_list(b"0,1,10,2"), Ok(segments(&[(0, 1), (10, 2)])));
        assert_eq!(parse_list(b"0,1,10"), Err(SparseError::Odd));
        assert_eq!(parse_list(b"0,,1"), Err(SparseError::Number));
        assert_eq!(parse_list(b"0,-1"), Err(SparseError::Number));
        let many = "0,0,".repeat(MAX_SEGMENTS) + "0,0";
        assert_eq!(parse_list(many.as_bytes()), Err(SparseError::TooMany));
    }

    fn blocks(text: &[u8]) -> Result<Option<Vec<Segment>>, SparseError> {
        let mut map = BlockMap::default();
        for block in text.chunks(512) {
            if map.push_block(block)? {
                return map.finish().map(Some);
            }
        }
        Ok(None)
    }

    #[test]
    fn block_maps_may_cross_blocks() {
        assert_eq!(blocks(b"0\n\0\0"), Ok(Some(vec![])));
        assert_eq!(blocks(b"1\n7\n9\n\0\0junk"), Ok(Some(segments(&[(7, 9)]))));
        assert_eq!(blocks(b"2\n7\n9\n"), Ok(None));
        assert_eq!(blocks(b"1\n7\nx\n"), Err(SparseError::Number));
        assert_eq!(blocks(b"\n"), Err(SparseError::Number));
        assert_eq!(blocks(b"1048577\n"), Err(SparseError::TooMany));
        assert_eq!(blocks(&[b'1'; 512]), Err(SparseError::Number));
        let lines: Vec<String> = (0..200).map(|index| format!("{}\n1\n", index * 10)).collect();
        let long = format!("200\n{}", lines.concat());
        assert!(long.len() > 1024);
        assert_eq!(blocks(long.as_bytes()).unwrap().unwrap().len(), 200);
    }
}
