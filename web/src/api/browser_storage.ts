/** The browser's storage, or one that forgets with the page where the browser refuses its own. */

function refusable(storage: () => Storage): Storage | null {
  try {
    return storage();
  } catch {
    return null;
  }
}

class Memory implements Storage {
  [name: string]: unknown;
  readonly #entries = new Map<string, string>();

  get length(): number {
    return this.#entries.size;
  }
  key(index: number): string | null {
    return [...this.#entries.keys()][index] ?? null;
  }
  getItem(key: string): string | null {
    return this.#entries.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    this.#entries.set(key, value);
  }
  removeItem(key: string): void {
    this.#entries.delete(key);
  }
  clear(): void {
    this.#entries.clear();
  }
}

const local = refusable(() => localStorage);

export const isLasting = local !== null;
/** Shared by all tabs, and there the next time. */
export const lastingStorage: Storage = local ?? new Memory();
/** Of this tab, until it is closed. */
export const tabStorage: Storage = refusable(() => sessionStorage) ?? new Memory();
