//! The prices of what a user asks, in points of its request budget.

/// Names or rows that cost one point.
const ROWS_OF_A_POINT: usize = 25;

/// Bytes of a frame or a request that cost one point.
const BYTES_OF_A_POINT: usize = 1_024;

/// The points of a frame or a request of so many bytes.
pub fn points_of_bytes(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / BYTES_OF_A_POINT).unwrap_or(u32::MAX)
}

/// The points of a question for so many names or rows.
pub(super) fn points_of_rows(rows: usize) -> u32 {
    u32::try_from(1 + rows / ROWS_OF_A_POINT).unwrap_or(u32::MAX)
}
