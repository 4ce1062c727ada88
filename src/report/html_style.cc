#include "report/html_style.h"

namespace squall::report {

const std::string_view kStyleSheet = R"css(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;
--line:#d5dae0;
--grid:#e9ecf0;--good:#116329;--good-bg:#e3f5e8;--bad:#a40e26;--bad-bg:#fdeaec;--unsure:#7d4e00;
--unsure-bg:#fdf3dc;--plain:#3d4852;--plain-bg:#eceff2;--series:#0b5cad;--fault-bg:#f3d4b8;
--fault:#95470a;--judged:#6639a6;--interval:#6639a633}
@media (prefers-color-scheme:dark){:root{--page:#0e1116;--card:#161b22;--ink:#e6e9ed;--soft:#9aa4af;
--line:#323a45;--grid:#242b34;--good:#5bd977;--good-bg:#12301c;--bad:#ff8a84;--bad-bg:#3d1719;
--unsure:#e8bb52;--unsure-bg:#35290d;--plain:#b6c0ca;--plain-bg:#232a33;--series:#6cb2ff;
--fault-bg:#5c3a1c;--fault:#f0a869;--judged:#c3a1ff;--interval:#c3a1ff40}}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--grid:#e5e5e5;
--good:#0b4d1f;--good-bg:#fff;--bad:#8c0a1f;--bad-bg:#fff;--unsure:#664000;--unsure-bg:#fff;
--plain:#333;--plain-bg:#fff;--series:#00408a;--fault-bg:#eee;--fault:#6b3000;--judged:#4b2a85;
--interval:#4b2a8533}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
code,pre,kbd{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.875em}
code{overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.75rem 1rem;background:var(--page);border:1px solid var(--line);
border-radius:6px;overflow-x:auto}
a{color:var(--series)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--series);
outline-offset:2px}
.skip{position:absolute;left:-999rem}
.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;z-index:1}
header,main,footer{max-width:62rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
footer{padding-bottom:2rem;color:var(--soft);font-size:.875rem}
h1{margin:.35rem 0 .25rem;font-size:1.85rem;line-height:1.2;letter-spacing:-.01em;
overflow-wrap:anywhere}
h2{margin:2.25rem 0 .75rem;font-size:1.3rem}
h3{margin:1rem 0 .25rem;font-size:1.08rem;overflow-wrap:anywhere}
.card h3{margin:0}
p{margin:.4rem 0}
.kicker{margin:0;color:var(--soft);font-size:.875rem}
.lead{font-size:1.08rem;max-width:48rem}
.soft{color:var(--soft)}
.verdict{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem 1rem;margin:1rem 0;
padding:.9rem 1.1rem;
border:1px solid;border-left-width:6px;border-radius:8px}
.verdict strong{font-size:1.35rem;letter-spacing:.04em}
.verdict span{color:var(--ink)}
.alarm{margin:1rem 0;padding:.9rem 1.1rem;border:3px double var(--bad);border-radius:8px;
background:var(--bad-bg);
color:var(--ink);font-weight:600}
.good{color:var(--good);border-color:var(--good);background:var(--good-bg)}
.bad{color:var(--bad);border-color:var(--bad);background:var(--bad-bg)}
.unsure{color:var(--unsure);border-color:var(--unsure);background:var(--unsure-bg)}
.plain{color:var(--plain);border-color:var(--plain);background:var(--plain-bg)}
.badge{display:inline-block;padding:.05rem .6rem;border:1px solid;border-radius:99px;
font-size:.875rem;
font-weight:600;white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.6rem 1.25rem;
margin:1rem 0 0}
.facts div{min-width:0}
.facts dt{color:var(--soft);font-size:.8125rem}
.facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.card{margin:0 0 1.1rem;padding:1.1rem 1.25rem;background:var(--card);border:1px solid var(--line);
border-radius:8px}
.card>.top{display:flex;flex-wrap:wrap;align-items:baseline;gap:.4rem .9rem;margin-bottom:.35rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;min-width:36rem;font-size:.9375rem;
font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:.875rem;padding-bottom:.35rem}
th,td{padding:.45rem .75rem .45rem 0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top}
th{font-weight:600}
thead th{color:var(--soft);font-size:.8125rem;border-bottom-width:2px}
tbody tr:last-child>*{border-bottom:0}
td ul,td dl{margin:0;padding-left:1.1rem}
td.number{white-space:nowrap}
details{margin-top:.75rem}
summary{cursor:pointer;color:var(--series)}
.tree,.tree ul{list-style:none;margin:.25rem 0;padding-left:1.1rem;
border-left:1px solid var(--line)}
.tree li{margin:.3rem 0}
dl.tree dt{font-weight:600;font-size:.875rem}
dl.tree dd{margin:0 0 .35rem 1rem}
.graph{display:block;width:100%;min-width:38rem;height:auto;margin:.5rem 0;font-size:12px}
.graph text{fill:var(--ink)}
.graph .tick,.graph .phase{fill:var(--soft)}
.graph .phase-fault{fill:var(--fault);font-weight:600}
.graph .grid{stroke:var(--grid)}
.graph .axis{stroke:var(--soft)}
.graph .fault{fill:var(--fault-bg);opacity:.6}
.graph .fault-edge{stroke:var(--fault);stroke-dasharray:2 3}
.graph .series{fill:none;stroke:var(--series);stroke-width:2;stroke-linejoin:round;
stroke-linecap:round}
.graph .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:7 4}
.graph .limit-label,.graph .violation-label{fill:var(--bad);font-weight:600}
.graph .limit-label{paint-order:stroke;stroke:var(--card);stroke-width:4px}
.graph .violation{stroke:var(--bad);stroke-width:1.5}
.graph .return{stroke:var(--good);stroke-width:1.5}
.graph .return-label{fill:var(--good);font-weight:600}
.graph .violation-label,.graph .return-label{paint-order:stroke;stroke:var(--card);stroke-width:4px}
.graph .judged{fill:var(--judged)}
.graph .interval{fill:var(--interval)}
.graph .observed{stroke:var(--judged);stroke-width:2}
.graph .hint{fill:transparent}
.graph .hint:hover{fill:var(--soft);opacity:.18}
.graph .bar{stroke:var(--line)}
.graph .bar-phase{fill:var(--plain-bg)}
.graph .bar-span{fill:var(--grid);stroke:var(--fault);stroke-dasharray:2 3}
.graph .bar-fault{fill:var(--fault-bg);stroke:var(--fault)}
.graph .bar-label{font-size:11.5px}
.graph .row-name{fill:var(--soft)}
.graph .dot{fill:var(--series)}
.graph .dot-bad{fill:var(--bad)}
.graph .dot-unsure{fill:var(--unsure)}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;margin:.25rem 0 0;padding:0;list-style:none;
color:var(--soft);font-size:.8125rem}
.key svg{width:22px;height:10px;margin-right:.35rem;vertical-align:middle}
@media print{table{min-width:0}body{font-size:11pt}.card{break-inside:avoid}.scroll{
overflow:visible}.graph{min-width:0}
.skip{display:none}a{color:inherit}}
)css";

}  // namespace squall::report
