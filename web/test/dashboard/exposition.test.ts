import { describe, expect, it } from "vitest";

import { parseExposition } from "../../src/dashboard/exposition";

describe("the text format", () => {
  it("reads names, labels and values", () => {
    expect(parseExposition('# HELP a b\nkvik:running{engine="0",model_name="m"} 3\nup 1 1700000000\n')).toEqual([
      { name: "kvik:running", labels: { engine: "0", model_name: "m" }, value: 3 },
      { name: "up", labels: {}, value: 1 },
    ]);
  });

  it("takes back what labels escape", () => {
    const [sample] = parseExposition('a{x="quote \\" slash \\\\ line \\n brace } comma ,"} 1');
    expect(sample!.labels).toEqual({ x: 'quote " slash \\ line \n brace } comma ,' });
  });

  it("knows all numbers", () => {
    const values = parseExposition("a 1e-05\nb +Inf\nc -Inf\nd NaN\ne -2.5\nf .5").map((sample) => sample.value);
    expect(values).toEqual([1e-5, Infinity, -Infinity, NaN, -2.5, 0.5]);
  });

  it("leaves out what is no sample", () => {
    expect(parseExposition("no value\n{x} 1\n1a 2\na nonsense\n\n")).toEqual([]);
  });

  it("survives any cut of a text", () => {
    const text = 'a{x="1\\"2"} 3\nb 4\n';
    for (let end = 0; end <= text.length; end++) expect(() => parseExposition(text.slice(0, end))).not.toThrow();
  });
});
