# From dotnet test's output: each failed test's name, its message and where it failed.
#   -v message=N -v stack=N   most lines of each
/^ +Failed .* \[[^]]*\]$/ { sub(/^ +Failed/, "failed:"); print; part = ""; failed = 1; next }
/^ +(Passed|Skipped) /     { part = ""; failed = 0; next }
/^(Failed|Passed)! /        { failed = 0 }
!failed                    { next }
/^ *Error Message:/        { part = "message"; left = message; next }
/^ *Stack Trace:/          { part = "stack"; left = stack; next }
/^ *Standard (Output|Error) Messages:/ { part = ""; next }
/^ *$/                     { next }
# What the assertion library itself did is not where the test failed.
part == "stack" && / at Xunit\.Assert\./ { next }
part != "" && left > 0     { sub(/^ +/, ""); print "      " substr($0, 1, 240); left-- }
