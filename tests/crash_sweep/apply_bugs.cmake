# cmake -DSOURCE=file.cc -DBUGS=a.bug|b.bug -DOUT=copy.cc -P apply_bugs.cmake
# Writes a copy of SOURCE with the edits of the bugs. A bug is a text file:
#   file src/...              the source it is in
#   caught ...                what catches it, see selftest.cc
#   ...                       what is wrong, for people
#   <<<<                      the text of the source, which must be there exactly once
#   ====                      what stands there instead: both ways, chosen by seeded("NAME")
#   >>>>
file(READ "${SOURCE}" text)
string(REPLACE "|" ";" bugs "${BUGS}")
foreach(bug IN LISTS bugs)
  file(READ "${bug}" edit)
  string(FIND "${edit}" "<<<<\n" from)
  string(FIND "${edit}" "====\n" middle)
  string(FIND "${edit}" ">>>>" to)
  math(EXPR old_start "${from} + 5")
  math(EXPR old_length "${middle} - ${old_start}")
  math(EXPR new_start "${middle} + 5")
  math(EXPR new_length "${to} - ${new_start}")
  string(SUBSTRING "${edit}" ${old_start} ${old_length} old)
  string(SUBSTRING "${edit}" ${new_start} ${new_length} new)
  string(FIND "${text}" "${old}" first)
  string(FIND "${text}" "${old}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "${bug} does not fit ${SOURCE} any more: write it anew")
  endif()
  string(REPLACE "${old}" "${new}" text "${text}")
endforeach()
file(WRITE "${OUT}" "bool seeded(const char* bug);\n#line 1 \"${SOURCE}\"\n${text}")
