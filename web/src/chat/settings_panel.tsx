/** The controls of the open conversation. An empty one is not sent. */
import { useId } from "preact/hooks";

import { modelNames } from "../api/server_state";
import { setSettings, setSystem } from "./actions";
import { current } from "./book";
import { modelOf } from "./request";
import { SchemaBox } from "./schema_box";
import { NO_SETTINGS, NUMBER_FIELDS, NUMBER_NAMES, numberProblem, numChanged, type NumberName } from "./settings";

export function SettingsPanel() {
  const { id, system, settings } = current.value;
  return (
    <form class="settings" onSubmit={(event) => event.preventDefault()}>
      {modelNames.value.length > 1 && <ModelChoice />}
      <label class="field">
        <span>System prompt</span>
        <textarea rows={3} value={system} onInput={(event) => setSystem(id, event.currentTarget.value)} />
      </label>
      <fieldset>
        <legend>Sampling</legend>
        {NUMBER_NAMES.map((name) => (
          <NumberBox key={name} name={name} />
        ))}
      </fieldset>
      <label class="field">
        <span>Stop strings</span>
        <textarea
          rows={2}
          value={settings.stop}
          aria-describedby="stop-hint"
          onInput={(event) => setSettings(id, { stop: event.currentTarget.value })}
        />
        <span id="stop-hint" class="hint">
          One per line; \n is a line feed.
        </span>
      </label>
      <label class="switch">
        <input
          type="checkbox"
          checked={settings.logprobs}
          onChange={(event) => setSettings(id, { logprobs: event.currentTarget.checked })}
        />
        <span>Token probabilities</span>
      </label>
      <SchemaBox />
      <button
        type="button"
        class="quiet"
        disabled={numChanged(settings) === 0}
        onClick={() => setSettings(id, { ...NO_SETTINGS, schema: settings.schema })}
      >
        Back to the server's defaults
      </button>
    </form>
  );
}

function ModelChoice() {
  const { id, settings } = current.value;
  return (
    <label class="field">
      <span>Model</span>
      <select
        value={modelOf(settings.model, modelNames.value)}
        onChange={(event) => setSettings(id, { model: event.currentTarget.value })}
      >
        {modelNames.value.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}

function NumberBox({ name }: { name: NumberName }) {
  const { id, settings } = current.value;
  const inputId = useId();
  const { label, range } = NUMBER_FIELDS[name];
  const typed = settings.numbers[name] ?? "";
  const problem = numberProblem(name, typed);
  return (
    <div class="number">
      <label for={inputId}>{label}</label>
      <input
        id={inputId}
        inputMode="decimal"
        autocomplete="off"
        placeholder="default"
        title={range}
        value={typed}
        aria-invalid={problem !== null}
        aria-describedby={`${inputId}-range`}
        onInput={(event) => setSettings(id, { numbers: { ...settings.numbers, [name]: event.currentTarget.value } })}
      />
      <span id={`${inputId}-range`} class={problem ? "error" : "visually-hidden"}>
        {problem ?? range}
      </span>
    </div>
  );
}
