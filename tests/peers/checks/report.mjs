// Collects what was checked and prints it so that a person can read it.

export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  const line = (row) => row.map((cell, i) => String(cell).padEnd(widths[i])).join("  ").trimEnd();
  console.log([line(rows[0]), widths.map((w) => "-".repeat(w)).join("  "), ...rows.slice(1).map(line)].join("\n"));
}

export function makeReport() {
  const failures = [];
  let passed = 0;
  let skipped = 0;
  return {
    check(name, good, detail = "") {
      good ? passed++ : failures.push(`${name}: ${detail}`);
      return good ? "ok" : "FAIL";
    },
    skip(name, why) {
      skipped++;
      console.log(`skipped: ${name} (${why})`);
    },
    title: (text) => console.log(`\n${text}`),
    /** The last line is read by scripts: keep its form. */
    finish() {
      if (failures.length) console.log(`\nFailures:\n${failures.map((f) => `  ${f}`).join("\n")}`);
      console.log(`${failures.length ? "" : "\n"}${passed} passed, ${failures.length} failed, ${skipped} skipped`);
      return failures.length === 0;
    },
  };
}

export const usd = (atomic) => `$${(Number(atomic) / 1e6).toFixed(2)}`;
