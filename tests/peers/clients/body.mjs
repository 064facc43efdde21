// 10 MiB of bytes that look random and are the same every time, written once per run for all clients to send.
import { createCipheriv, createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";

export const BODY_LENGTH = 10 * 1024 * 1024;

export async function makeBody(dir, length = BODY_LENGTH) {
  const stream = createCipheriv("aes-128-ctr", Buffer.from("tollpass-peers-1"), Buffer.alloc(16));
  const bytes = stream.update(Buffer.alloc(length));
  const file = path.join(dir, "body.bin");
  await writeFile(file, bytes);
  return { file, length, sha256: createHash("sha256").update(bytes).digest("hex") };
}
