// What every script here has: its arguments as JSON, and one JSON object per line back to the test.
export const settings = JSON.parse(process.argv[2]);

export function tell(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}
