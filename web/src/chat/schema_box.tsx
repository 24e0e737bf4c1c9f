/** A JSON schema that answers must follow: on or off, and what is wrong with it before it is sent. */
import { setSettings } from "./actions";
import { current } from "./book";
import { EXAMPLE_SCHEMA, schemaProblem } from "./json_schema";

export function SchemaBox() {
  const { id, settings } = current.value;
  const problem = settings.useSchema ? schemaProblem(settings.schema) : null;
  function turn(useSchema: boolean): void {
    setSettings(id, { useSchema, schema: settings.schema || EXAMPLE_SCHEMA });
  }
  return (
    <div class="schema">
      <label class="switch">
        <input type="checkbox" checked={settings.useSchema} onChange={(event) => turn(event.currentTarget.checked)} />
        <span>Answer in JSON</span>
      </label>
      {settings.useSchema && (
        <label class="field">
          <span>JSON schema</span>
          <textarea
            class="code"
            rows={9}
            spellcheck={false}
            value={settings.schema}
            aria-invalid={problem !== null}
            aria-describedby="schema-problem"
            onInput={(event) => setSettings(id, { schema: event.currentTarget.value })}
          />
          <span id="schema-problem" class="error">
            {problem}
          </span>
        </label>
      )}
    </div>
  );
}
