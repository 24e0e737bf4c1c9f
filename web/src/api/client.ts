/** Requests to the server: the key goes along, and what is refused becomes an `ApiError`. Knows no route. */
import { apiUrl } from "./address";
import { apiKey, wantKey } from "./key";

/** What the server answered instead of a result, or that it did not answer: `status` is 0 then. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }
}

export interface Ask {
  method?: "GET" | "POST" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
  /** Asked again and again: the server's log leaves it out. */
  isPoll?: boolean;
}

/** The answer of the server if it is a success. Throws `ApiError`; what `signal` ended throws AbortError. */
export async function ask(path: string, { method = "GET", body, signal, isPoll }: Ask = {}): Promise<Response> {
  const headers = { ...headersFor(body), ...(isPoll ? { "x-kvik-poll": "1" } : {}) };
  const response = await reach(path, { method, signal, headers, body: body && JSON.stringify(body) });
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401) wantKey(error.message, isPoll);
  throw error;
}

export async function askJson<T>(path: string, options: Ask = {}): Promise<T> {
  return (await ask(path, options)).json() as Promise<T>;
}

export async function askText(path: string, options: Ask = {}): Promise<string> {
  return (await ask(path, options)).text();
}

async function reach(path: string, init: object): Promise<Response> {
  try {
    return await fetch(apiUrl(path), init as RequestInit);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer.");
  }
}

function headersFor(body: unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (apiKey.value) headers["Authorization"] = `Bearer ${apiKey.value}`;
  return headers;
}

async function errorOf(response: Response): Promise<ApiError> {
  const retryAfter = Number(response.headers.get("Retry-After"));
  const text = await response.text();
  return new ApiError(response.status, messageIn(text) || response.statusText, retryAfter > 0 ? retryAfter : null);
}

function messageIn(text: string): string {
  try {
    const told = JSON.parse(text) as { error?: { message?: string } | string; message?: string };
    return (typeof told.error === "object" ? told.error.message : told.error) ?? told.message ?? text;
  } catch {
    return text;
  }
}
