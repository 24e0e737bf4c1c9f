import { render } from "preact";

import "./style/tokens.css";
import "./style/base.css";
import { watchServer } from "./api/server_state";
import { Shell } from "./shell/shell";

watchServer();
render(<Shell />, document.getElementById("page")!);
