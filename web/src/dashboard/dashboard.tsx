/** The server at work. */
export function Dashboard() {
  return <main class="dashboard" />;
}
