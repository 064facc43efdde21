// A certificate authority for the https sellers, made anew for every run: nothing to expire, nothing to leak.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { OUTSIDE } from "./namespace.mjs";

const openssl = promisify(execFile).bind(null, "openssl");
const P256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** A name for the sellers that only the program under test can resolve, see `tollpass.mjs`. */
export const SHOP_NAME = "shop.test";

export async function makeCa(dir) {
  const at = (name) => path.join(dir, name);
  const files = { ca: at("seller-ca.pem"), caKey: at("seller-ca.key"), cert: at("seller.pem"), key: at("seller.key") };
  await openssl([
    "req", "-x509", ...P256, "-days", "2", "-subj", "/CN=Tollpass peer test CA",
    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    "-keyout", files.caKey, "-out", files.ca,
  ]);
  await openssl(["req", ...P256, "-subj", "/CN=localhost", "-keyout", files.key, "-out", at("seller.csr")]);
  const names = ["localhost", SHOP_NAME, ...Object.keys(OUTSIDE)].map((name) => `DNS:${name}`);
  await writeFile(
    at("seller.ext"),
    `subjectAltName=${names},IP:127.0.0.1,IP:::1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n` +
      "keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n",
  );
  await openssl([
    "x509", "-req", "-in", at("seller.csr"), "-CA", files.ca, "-CAkey", files.caKey, "-CAcreateserial",
    "-days", "2", "-extfile", at("seller.ext"), "-out", files.cert,
  ]);
  return files;
}
