import { defineConfig } from "vitest/config";

// Addresses in the built page are relative: it works below any --root-path.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/kvik/server/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows no data: scripts or styles
    chunkSizeWarningLimit: 300,
  },
  server: { proxy: proxyTo(process.env["KVIK_URL"] ?? "http://127.0.0.1:8000") },
  test: { environment: "happy-dom", include: ["test/**/*.test.ts", "test/**/*.test.tsx"] },
});

/** While developing (`npm run dev`) the page comes from Vite, and what it asks for from a running server. */
function proxyTo(target: string) {
  const paths = ["/v1", "/startup", "/ready", "/metrics", "/plan", "/debug", "/version", "/tokenize"];
  return Object.fromEntries(paths.map((path) => [path, { target }]));
}
