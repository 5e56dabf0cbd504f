/**
 * UUIDs of version 7 (RFC 9562): 48 bits of milliseconds, then chance. Within one program they ascend, also within a millisecond and when the
 * clock is set back: the 12 bits after the version count.
 */

let lastMs = 0;
let count = 0;

export function uuidv7(nowMs: number = Date.now()): string {
  const chance = crypto.getRandomValues(new Uint8Array(9));
  if (nowMs > lastMs) {
    lastMs = nowMs;
    count = chance[8]!;
  } else if (++count > 0xfff) {
    lastMs += 1;
    count = 0;
  }
  chance[0] = (chance[0]! & 0x3f) | 0x80;
  const tail = Array.from(chance, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const time = lastMs.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count.toString(16).padStart(3, "0")}-${tail.slice(0, 4)}-${tail.slice(4, 16)}`;
}
