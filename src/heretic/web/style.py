"""How the page looks: Gradio's own variables only, so that light and dark follow the browser."""

STYLE = """
.gradio-container { max-width: 1500px !important; margin: 0 auto; }
#transcript { min-height: 120px; color: var(--body-text-color); }
.turn { margin: 0 0 1.2rem; }
.question { background: var(--color-accent-soft); border-radius: var(--radius-lg); padding: .6rem .9rem;
  margin: 0 0 .6rem auto; width: fit-content; max-width: 85%; white-space: pre-wrap; overflow-wrap: anywhere; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .8rem; }
.answer { background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); padding: .6rem .9rem; min-width: 0; }
.answer h4 { margin: 0 0 .4rem; font-size: .9rem; color: var(--body-text-color); }
.answer .said { white-space: pre-wrap; overflow-wrap: anywhere; }
.answer mark { background: var(--color-accent-soft); color: var(--body-text-color); border-radius: 3px;
  text-decoration: underline; text-decoration-color: var(--color-accent); }
.answer footer { margin-top: .5rem; font-size: .8rem; color: var(--body-text-color); opacity: .75; }
.answer details { margin: 0 0 .5rem; color: var(--body-text-color-subdued); white-space: pre-wrap;
  overflow-wrap: anywhere; }
.facts { margin: 0; padding: 0 0 0 1.1rem; color: var(--body-text-color); font-size: .9rem; overflow-wrap: anywhere; }
.notice { margin: .2rem 0; color: var(--body-text-color); }
.notice.alert { border-left: 3px solid var(--error-border-color, currentColor); padding-left: .6rem; }
.bar { width: 100%; height: .6rem; accent-color: var(--color-accent); }
.hint { color: var(--body-text-color-subdued); }
.wide { overflow-x: auto; }
.sources { font-size: .85rem; color: var(--body-text-color-subdued); margin-top: .4rem; overflow-wrap: anywhere; }
.sources ol { margin: .2rem 0 0; padding-left: 1.4rem; }
.front { width: 100%; max-width: 900px; height: auto; }
.front text { fill: var(--body-text-color-subdued); font-size: 12px; }
.front line { stroke: var(--border-color-primary); stroke-width: .7; }
.front .line { fill: none; stroke: var(--color-accent); stroke-width: 1.5; opacity: .5; }
.front .dot { fill: var(--body-text-color-subdued); opacity: .45; }
.front .trial { cursor: pointer; fill: var(--color-accent); }
.front .trial .reach { fill: transparent; }
.front .trial.chosen { stroke: var(--body-text-color); stroke-width: 2; }
.front .trial.chosen .reach { stroke: none; }
.front .trial:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
"""
